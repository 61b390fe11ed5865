"""Delete what accounts own, and restore it."""

from db.services.deletions.deleting import Deleted, delete, delete_many
from db.services.deletions.previews import Preview, preview
from db.services.deletions.restoring import Restored, restore

__all__ = ["Deleted", "Preview", "Restored", "delete", "delete_many", "preview", "restore"]
