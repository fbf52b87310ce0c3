"""The question of each stage, and what the guide says about it: the one place for the guide's own results."""

from __future__ import annotations

from dataclasses import dataclass

from abalone.settings import STAGES


@dataclass(frozen=True)
class Lesson:
    """A stage as a question.

    Parameters
    ----------
    question : str
        What the stage is about.
    guide_says : str
        The guide's own answer, in a sentence.
    """

    question: str
    guide_says: str


LESSONS = {
    "classify": Lesson(
        "Do size and whole weight tell young abalones (below 10 rings) from old ones?",
        "The guide prints no score of this network.",
    ),
    "deepen": Lesson(
        "Does a third hidden layer help?",
        "The guide finds three hidden layers more accurate than two, and keeps three.",
    ),
    "encode": Lesson(
        "Does sex help, and when does the network overfit?",
        "The guide sees the accuracy improve, and the test loss rise after about 5 epochs.",
    ),
    "regularize": Lesson(
        "Does weight decay keep the network from overfitting?",
        "In the guide weight decay seems to help against overfitting, though the test loss stays worse than hoped.",
    ),
    "dropout": Lesson(
        "Does dropout keep the network from overfitting?",
        "In the guide dropout is not the best choice: the model gets worse, as is common for rather simple networks.",
    ),
    "regress": Lesson(
        "How many rings does an abalone have?",
        "The guide prints no score; it shows that only the output and the loss change.",
    ),
}
GUIDE_FIGURES = {"accuracy": "0.725", "roc_auc": "0.72", "epochs": "5"}  # as the closing table has them


def lesson_of(stage: str) -> Lesson:
    """The lesson of a stage; of one that the guide does not have, what it teaches."""
    return LESSONS.get(stage, Lesson(STAGES[stage].teaches, guide_says=""))
