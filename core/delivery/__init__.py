"""An upload in, exactly one stored result.

S3 events arrive at least once, in any order and concurrently. The rules:

1. Only the newest version of a source object counts; an event about another version is superseded.
2. A result's metadata names the version, the sequencer and the model that it stands for.
3. A delivery that finds its own result is a duplicate and classifies nothing.
4. A delivery takes a lease before it classifies; a concurrent delivery of the same version returns to the queue.
5. Results are written with a conditional PUT.
6. On conflict, the delivery re-reads the stored result and yields to a newer one.
7. Transient errors are retried by the queue. Permanent errors get a `failed` result immediately.
8. The last delivery writes a `given_up` result first and replaces it on success, so a crash leaves a result.
9. A `given_up` result is never final: a redrive or a backfill classifies the recording.
10. Acknowledging a message is irreversible, so "deleted" and "overwritten" are confirmed by a second HEAD first.
11. A recording that takes longer than the invocation is continued by a message to the queue. Only the lease's holder
    stores progress.
12. With `DELETE_RESULTS`, a removal deletes the result of a key without an upload. A delivery does the same after its
    own write, so a recording that is deleted while it is classified leaves no result.
"""

from core.delivery.delivery import Attempt, Delivery, Outcome
from core.delivery.metadata import is_final
from core.delivery.versions import Removal, Upload

__all__ = ["Attempt", "Delivery", "Outcome", "Removal", "Upload", "is_final"]
