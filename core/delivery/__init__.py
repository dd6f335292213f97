"""An upload in, its result stored, exactly once as a reader sees it.

Events come at least once, in any order and at the same moment. What keeps them apart:

- The source's newest version is what counts. An event about any other one is superseded: the newer has its own event.
- A result names, in its metadata, the version, the sequencer and the model that it stands for. A delivery that finds
  its own result there is a duplicate and costs no inference.
- A delivery takes a claim before it works, so that a second one at the same moment comes back later instead.
- Results are written under a condition. Who loses that race looks again, and gives way to what is newer.
- On the last delivery that the queue allows, a `failed` result is written first and replaced on success: even a crash
  of the process leaves a result. Such a given-up result never counts as done.
- Acknowledging is what cannot be undone. That an upload is gone or overwritten is asked again before it is believed.
"""

from core.delivery.delivery import Delivery, Outcome, Upload, is_final

__all__ = ["Delivery", "Outcome", "Upload", "is_final"]
