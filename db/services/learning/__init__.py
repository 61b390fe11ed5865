"""Tutorials that ship with the product, and the progress of users."""

from db.services.learning.content import TUTORIALS, InvalidTutorial, Step, TutorialContent, parse
from db.services.learning.progress import complete_step, reset
from db.services.learning.publishing import publish_tutorials

__all__ = ["TUTORIALS", "InvalidTutorial", "Step", "TutorialContent", "complete_step", "parse", "publish_tutorials", "reset"]
