"""Question texts that several families were trained with. A family's own table says which it takes, and what it adds.

`prompt.template` names an entry of that table, and `prompt.question` stands in for all of them.
"""

_SHORT = "Answer the question using a single word or phrase."
CLOSELY = {  # for what is small: say so, and name the steps; a bare question gets the answer to what is large
    "closely": f"Look closely at the small details of the image. {{question}} {_SHORT}",
    "locate_first": "First find the small region of the image that the question is about, then look closely at it alone. "
    f"{{question}} {_SHORT}",
    "characters": "Look closely at the small text in the image, mind that it may be tilted or blurred, and read it character by "
    f"character. {{question}} {_SHORT}",
}
ANSWER = {"short": f"{{question}} {_SHORT}", "plain": "{question}"} | CLOSELY
LOCATE = "Please provide the bounding box coordinate of the region this sentence describes: {question}"
# How families are asked for all text of a picture. JSON: word for word as Qwen's own examples of reading ask. Marked: what
# InternVL's authors advise, in English; they trained without a fixed wording.
READ_JSON = "Spotting all the text in the image with line-level, and output in JSON format."
READ_MARKED = "Please recognise all the text in the image and output the corresponding bounding boxes."
READ_PLAIN = "Read all the text in the image, line by line."
READ_LINE = "Read all the text in the image."
