"""Every score by its name: what it means, which way is better, and whether a row can only be right or wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """`title` heads a column. `binary`: a row scores 0 or 1, so that runs can be compared by McNemar's test.

    `unit`: what 1 is shown as in a table, 100 for a share in percent.
    """

    title: str
    meaning: str
    higher_is_better: bool = True
    binary: bool = False
    unit: float = 100.0


MEASURES = {
    "anls": Measure("ANLS", "1 minus normalised edit distance to the nearest reference, 0 from a distance of 0.5 on"),
    "vqa_accuracy": Measure("VQA acc.", "three others of the annotators agree; any match under four references"),
    "exact_match": Measure("exact", "is a reference, case and white space aside", binary=True),
    "cer": Measure("CER", "characters to edit over those of the nearest reference; order counts", higher_is_better=False),
    "wer": Measure("WER", "words to edit over those of the nearest reference; order counts", higher_is_better=False),
    "word_f1": Measure("word F1", "words [A-Z0-9.]+ found, in any order, each as often as it stands there"),
    "word_precision": Measure("word prec.", "share of the words said that stand there"),
    "word_recall": Measure("word recall", "share of the words there that were said"),
    "box_given": Measure("box given", "a box was given where a reference box is the truth", binary=True),
    "acc_50": Measure("Acc@0.5", "the box overlaps a reference box by half or more", binary=True),
    "mean_iou": Measure("mean IoU", "overlap with the nearest reference box"),
    "line_f1": Measure("line F1", "boxes paired one to one with reference boxes at an overlap of 0.5"),
    "line_precision": Measure("line prec.", "share of the boxes given that have a reference box"),
    "line_recall": Measure("line recall", "share of the reference boxes that have a box"),
    "phrase_acc_50": Measure("Acc@0.5", "share of the phrases there whose surest box overlaps a reference box by half"),
    "label_f1": Measure("label F1", "boxes paired one to one with reference boxes of the same phrase at an overlap of 0.5"),
    "label_precision": Measure("label prec.", "share of the boxes given that have a reference box of their phrase"),
    "label_recall": Measure("label recall", "share of the reference boxes that have a box of their phrase"),
    "crop_inside": Measure("in crop", "share of the true box inside the crop"),
    "crop_holds": Measure("held", "95 % or more of the true box lie inside the crop", binary=True),
    "crop_chance": Measure("by chance", "the same share, mean over every place a box of that size could have"),
    "crop_ratio": Measure("ratio", "share of the true box inside the crop over that by chance; 1 is chance", unit=1.0),
    "crop_area": Measure("crop area", "the crop's share of the picture", higher_is_better=False),
    "chosen_acc_50": Measure("chosen", "Acc@0.5 of the candidate that was chosen", binary=True),
    "random_acc_50": Measure("random", "Acc@0.5 of a candidate drawn at random"),
    "likeliest_acc_50": Measure("likeliest", "Acc@0.5 of the candidate with the highest mean log-probability", binary=True),
    "best_acc_50": Measure("best of all", "Acc@0.5 if the best candidate were always chosen", binary=True),
    "whole": Measure("whole", "right from the picture as it is", binary=True),
    "zoomed": Measure("zoomed", "right as the run answers: behind the crops FOCUS finds, or without", binary=True),
    "one_crop": Measure("1 crop", "right behind one crop", binary=True),
    "crop_each": Measure("crop each", "right behind as many crops as there are things", binary=True),
    "true_crop": Measure("true crop", "right behind a square around each true box", binary=True),
    "recovered": Measure("gap recovered", "zoomed minus whole over true crop minus whole"),
    "held_zoomed": Measure("held", "share of the true boxes of which a crop holds 95 % or more, where there was one"),
    "kept": Measure("kept", "the answer behind the crop stands, not the first one; where there was one", binary=True),
    "held_one_crop": Measure("1 holds", "share of the true boxes of which the one crop holds 95 % or more"),
    "held_crop_each": Measure("each hold", "the same with as many crops as there are things"),
    "random_hidden": Measure("random hidden", "right with a tenth of the patches hidden, drawn from the others", binary=True),
    "top_hidden": Measure("top hidden", "right with the tenth of the patches hidden that are attended to most", binary=True),
    "thing_hidden": Measure("thing hidden", "right with the true boxes hidden", binary=True),
    "attention_ratio": Measure("ratio", "relative attention in the true box over that in a box of its size anywhere", unit=1.0),
    "plain_ratio": Measure("plain ratio", "the same of attention as it is, not divided by that of a general prompt", unit=1.0),
    "pointed": Measure("pointed", "the cell of most relative attention lies in a true box", binary=True),
    "pointed_chance": Measure("by chance", "share of the picture that the true boxes cover"),
}  # fmt: skip
TABLES = {  # the columns of the tables of a task
    "answer": ("anls", "vqa_accuracy", "exact_match", "cer", "box_given", "acc_50", "mean_iou"),
    "ocr": ("word_f1", "word_precision", "word_recall", "cer", "wer", "line_f1", "line_precision", "line_recall"),
    "label": ("phrase_acc_50", "label_f1", "label_precision", "label_recall"),
}
STUDIES = {
    "looking": ("crop_inside", "crop_holds", "crop_chance", "crop_ratio", "crop_area"),
    "choosing": ("chosen_acc_50", "random_acc_50", "likeliest_acc_50", "best_acc_50"),
}
