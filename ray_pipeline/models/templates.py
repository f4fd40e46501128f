"""Question texts that several families were trained with. A family's own table says which it takes, and what it adds.

`prompt.template` names an entry of that table, and `prompt.question` stands in for all of them.
"""

ANSWER = {
    "short": "{question} Answer the question using a single word or phrase.",
    "plain": "{question}",
}
LOCATE = "Please provide the bounding box coordinate of the region this sentence describes: {question}"
