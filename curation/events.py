"""What happens while works are done."""

from __future__ import annotations

from curation.rows import Made, Work
from curation.worker import Ended

Event = tuple[Work, Made | Ended]
"""A row of the work is made, or the work ends."""
