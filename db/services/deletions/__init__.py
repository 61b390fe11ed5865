"""Delete what accounts own, restore it, and give it up."""

from db.services.deletions.deleting import Deleted, delete, delete_many
from db.services.deletions.previews import Preview, preview
from db.services.deletions.purging import purge
from db.services.deletions.restoring import Restored, restore

__all__ = ["Deleted", "Preview", "Restored", "delete", "delete_many", "preview", "purge", "restore"]
