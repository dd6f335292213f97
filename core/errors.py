"""Every error this project raises on purpose.

    AudioEmotionError
    ├── RecordingError                 permanent: the recording gets a `failed` result, with the code and the message
    │   ├── EmptyRecording               empty
    │   ├── NotAudio                     not_audio
    │   ├── NoAudioStream                no_audio_stream
    │   ├── DamagedAudio                 damaged
    │   ├── TooManyChannels              too_many_channels
    │   ├── RecordingTooLong             too_long
    │   ├── RecordingTooLarge            too_large
    │   ├── RecordingArchived            archived
    │   ├── RecordingEncrypted           encrypted
    │   ├── DeadlineExceeded             deadline_exceeded
    │   └── GivenUp                      given_up
    ├── TransientError                 the delivery is reported as failed and comes back
    │   ├── StorageUnavailable
    │   ├── StorageRefused
    │   ├── RecordingInProgress
    │   ├── DecoderUnavailable
    │   └── OutOfTime
    ├── RecordingSuperseded            not a failure: the version was deleted or overwritten, nothing is left to do
    ├── EventNotUnderstood
    ├── SettingsInvalid
    ├── ResultUnreadable
    ├── OperationFailed                what an operator asked for on AWS
    │   ├── StackUnknown
    │   └── AwsRefused
    ├── WorkerEnded
    ├── UploadFormRejected
    ├── ManifestUnreadable
    └── ModelError
        ├── CheckpointUnreadable
        ├── CheckpointUnreachable
        ├── PackageRefused
        ├── VoiceActivityUnavailable
        └── ParityMissed

Every message is one sentence that a person can act on. Codes are part of the result document: they never change.
"""


class AudioEmotionError(Exception):
    """Anything this project raises on purpose."""


class RecordingError(AudioEmotionError):
    """The recording itself is at fault: trying again cannot help."""

    code = "failed"


class EmptyRecording(RecordingError):
    """There are no bytes, or no samples."""

    code = "empty"


class NotAudio(RecordingError):
    """ffmpeg knows no such format, or it is one that is not accepted."""

    code = "not_audio"


class NoAudioStream(RecordingError):
    """A media file without sound: a silent film, a picture."""

    code = "no_audio_stream"


class DamagedAudio(RecordingError):
    """The format is known, but nothing could be decoded from it, or not enough to be called the recording."""

    code = "damaged"


class TooManyChannels(RecordingError):
    """More channels than any recording of speech has."""

    code = "too_many_channels"


class RecordingTooLong(RecordingError):
    """The audio lasts longer than is allowed."""

    code = "too_long"


class RecordingTooLarge(RecordingError):
    """The object has more bytes than are allowed."""

    code = "too_large"


class RecordingArchived(RecordingError):
    """The object lies in an archive class and cannot be read before it is restored."""

    code = "archived"


class RecordingEncrypted(RecordingError):
    """The object was uploaded with a key of the customer's own, or its sound is protected: we have no key to it."""

    code = "encrypted"


class DeadlineExceeded(RecordingError):
    """There was not enough time for a recording of this length."""

    code = "deadline_exceeded"


class GivenUp(RecordingError):
    """Every delivery failed for a reason that was not the recording's; a redrive or a backfill tries again."""

    code = "given_up"


class TransientError(AudioEmotionError):
    """The surroundings are at fault: the same delivery may succeed later."""


class StorageUnavailable(TransientError):
    """S3 throttled, failed, timed out, or sent fewer bytes than it announced."""


class StorageRefused(TransientError):
    """S3 refused access; an operator can mend that, so the delivery comes back."""


class RecordingInProgress(TransientError):
    """Another delivery of the same version is at work on it right now."""


class DecoderUnavailable(TransientError):
    """ffmpeg could not be started, or was killed from outside."""


class OutOfTime(TransientError):
    """The invocation has too little time left to begin on another recording."""


class RecordingSuperseded(AudioEmotionError):
    """The version that the event names is no longer the newest one, or the object is gone."""


class EventNotUnderstood(AudioEmotionError):
    """The event is of no kind that this function takes."""


class SettingsInvalid(AudioEmotionError):
    """An environment variable has a value that cannot be used."""


class ResultUnreadable(AudioEmotionError):
    """A file is no result document, or not that of the recording."""


class OperationFailed(AudioEmotionError):
    """What an operator asked for could not be done on AWS."""


class StackUnknown(OperationFailed):
    """There is no such stack, or it is none of ours."""


class AwsRefused(OperationFailed):
    """AWS could not be asked, or said no."""


class WorkerEnded(AudioEmotionError):
    """A worker of the embedded stack is gone, and nothing would be classified any more."""


class UploadFormRejected(AudioEmotionError):
    """An upload to the local API carries no ticket, or one that has run out or was used."""


class ManifestUnreadable(AudioEmotionError):
    """A list of labelled recordings cannot be used."""


class ModelError(AudioEmotionError):
    """Something about the checkpoint or the serving package."""


class CheckpointUnreadable(ModelError):
    """A file of the checkpoint is missing or malformed, or a tensor is missing, unexpected or mis-shaped."""


class CheckpointUnreachable(ModelError):
    """The Hugging Face Hub, or what stands in for it, could not deliver the checkpoint."""


class PackageRefused(ModelError):
    """The serving package is incomplete, of an unknown format, or does not match its manifest."""


class VoiceActivityUnavailable(ModelError):
    """The network that tells speech from everything else is not installed."""


class ParityMissed(ModelError):
    """The exported network does not say what the reference says."""
