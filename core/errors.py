"""Every error this project raises on purpose.

    AudioEmotionError
    ├── RecordingError                 permanent: the recording gets a `failed` result with the code and the message
    │   ├── EmptyRecording               empty
    │   ├── NotAudio                     not_audio
    │   ├── FormatNotAccepted            not_accepted
    │   ├── NoAudioStream                no_audio_stream
    │   ├── DamagedAudio                 damaged
    │   ├── TooManyChannels              too_many_channels
    │   ├── RecordingTooLong             too_long
    │   ├── RecordingTooLarge            too_large
    │   ├── RecordingArchived            archived
    │   ├── RecordingEncrypted           encrypted
    │   ├── RecordingNotFound            not_found
    │   ├── RecordingUnreadable          unreadable
    │   ├── DeadlineExceeded             deadline_exceeded
    │   ├── SpeakersNotOffered           speakers_unavailable
    │   ├── MetadataInvalid              invalid_metadata
    │   └── GivenUp                      given_up
    ├── TransientError                 transient: SQS retries the delivery
    │   ├── StorageUnavailable
    │   ├── StorageRefused
    │   ├── QueueUnavailable
    │   ├── RecordingInProgress
    │   ├── DiskUnavailable
    │   ├── DecoderUnavailable
    │   └── OutOfTime
    ├── RecordingSuperseded            not a failure: the version was deleted or overwritten
    ├── RecordingUnfinished            not a failure: another invocation continues
    ├── EventNotUnderstood
    ├── BenchmarkFailed
    ├── SettingsInvalid
    ├── ResultUnreadable
    ├── OperationFailed                an operator's command failed on AWS
    │   ├── StackUnknown
    │   └── AwsRefused
    ├── WorkerEnded
    ├── FolderRefused
    ├── UploadFormRejected
    ├── ManifestUnreadable
    ├── TrainingRefused
    └── ModelError
        ├── CheckpointUnreadable
        ├── CheckpointUnreachable
        ├── LicenceNotAccepted
        ├── LabelsInvalid
        ├── PackageRefused
        ├── VoiceActivityUnavailable
        ├── SpeakersUnavailable
        └── ParityMissed

Every message says what happened and, if the reader can act, what to do. Codes are part of the result document and never
change.
"""


class AudioEmotionError(Exception):
    """Base of every error that this project raises on purpose."""


class RecordingError(AudioEmotionError):
    """A permanent error: the recording itself prevents classification, so a retry cannot help."""

    code = "failed"


class EmptyRecording(RecordingError):
    """The file has no bytes, or no audio samples."""

    code = "empty"


class NotAudio(RecordingError):
    """No audio or video format, or no codec, was recognised in the file."""

    code = "not_audio"


class FormatNotAccepted(RecordingError):
    """The file's format or codec is known but not accepted. docs/reference/formats.md lists the accepted ones."""

    code = "not_accepted"


class NoAudioStream(RecordingError):
    """The file has no audio stream. It may be a silent film or a picture."""

    code = "no_audio_stream"


class DamagedAudio(RecordingError):
    """The format is known, but too little of the file can be decoded."""

    code = "damaged"


class TooManyChannels(RecordingError):
    """The recording has more channels than `MAX_CHANNELS`."""

    code = "too_many_channels"


class RecordingTooLong(RecordingError):
    """The recording is longer than `MAX_DURATION_S`."""

    code = "too_long"


class RecordingTooLarge(RecordingError):
    """The file is larger than `MAX_SIZE_BYTES`."""

    code = "too_large"


class RecordingArchived(RecordingError):
    """The object is in an archive storage class and must be restored first."""

    code = "archived"


class RecordingEncrypted(RecordingError):
    """The object is encrypted with a customer's key, or its audio is protected (DRM)."""

    code = "encrypted"


class RecordingNotFound(RecordingError):
    """On the command line: there is no such file."""

    code = "not_found"


class RecordingUnreadable(RecordingError):
    """On the command line: the file cannot be read, or is a folder, a pipe or a device."""

    code = "unreadable"


class DeadlineExceeded(RecordingError):
    """The recording takes longer than an invocation, and cannot be continued or advances too slowly."""

    code = "deadline_exceeded"


class SpeakersNotOffered(RecordingError):
    """The recording's request to separate speakers cannot be fulfilled: the network for it is missing or damaged."""

    code = "speakers_unavailable"


class MetadataInvalid(RecordingError):
    """The upload's S3 metadata requests something unknown."""

    code = "invalid_metadata"


class GivenUp(RecordingError):
    """Every attempt failed, perhaps not because of the recording. A redrive, a backfill or another run retries it."""

    code = "given_up"


class TransientError(AudioEmotionError):
    """A transient error: a retry of the delivery may succeed."""


class StorageUnavailable(TransientError):
    """S3 throttled the request, failed, timed out, or sent too few bytes."""


class StorageRefused(TransientError):
    """S3 refused access. The delivery is retried, because an operator can grant it.

    Attributes
    ----------
    cause
        The action that AWS does not authorize, such as `kms:Decrypt`, or AWS's error code. Unlike the message, it
        contains no key of an object.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class QueueUnavailable(TransientError):
    """SQS did not accept a message."""


class DiskUnavailable(TransientError):
    """A file could not be written, in most cases because the disk is full."""


class RecordingInProgress(TransientError):
    """Another delivery of the same version is in progress.

    Attributes
    ----------
    retry_after_s
        Time until its lease expires; 0 if it is unknown.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DecoderUnavailable(TransientError):
    """ffmpeg could not be started, or another process killed it."""


class OutOfTime(TransientError):
    """Too little of the invocation is left to start another recording."""


class RecordingSuperseded(AudioEmotionError):
    """The version that the event names was deleted or overwritten."""


class RecordingUnfinished(AudioEmotionError):
    """The invocation ended before the recording did, and stored its progress."""


class EventNotUnderstood(AudioEmotionError):
    """The event is of an unknown kind."""


class BenchmarkFailed(AudioEmotionError):
    """The built-in speech could not be classified, or not in time."""


class SettingsInvalid(AudioEmotionError):
    """An environment variable is missing or has an invalid value."""


class ResultUnreadable(AudioEmotionError):
    """A file is not a result document, or belongs to another recording."""


class OperationFailed(AudioEmotionError):
    """An operator's command failed on AWS."""


class StackUnknown(OperationFailed):
    """The stack does not exist, or another template created it."""


class AwsRefused(OperationFailed):
    """AWS could not be reached, or refused the request."""


class WorkerEnded(AudioEmotionError):
    """A worker process ended unexpectedly."""


class FolderRefused(AudioEmotionError):
    """A command cannot use a folder: it is missing, another process uses it, or it has files of another program."""


class UploadFormRejected(AudioEmotionError):
    """An upload form of the local API is unknown, expired or already used."""


class ManifestUnreadable(AudioEmotionError):
    """The manifest of labelled recordings, or the `--map` option, is invalid."""


class TrainingRefused(AudioEmotionError):
    """The clips, the checkpoint or the options do not allow a training."""


class ModelError(AudioEmotionError):
    """Base of errors of checkpoints and serving packages."""


class CheckpointUnreadable(ModelError):
    """A file of the checkpoint is missing or malformed, or a tensor is missing, unexpected or mis-shaped."""


class CheckpointUnreachable(ModelError):
    """The Hugging Face Hub could not deliver the checkpoint."""


class LicenceNotAccepted(ModelError):
    """The licence of a checkpoint forbids commercial use, and the user did not accept it."""


class LabelsInvalid(ModelError):
    """The option `--labels` or `--only` does not fit the model."""


class PackageRefused(ModelError):
    """The serving package is incomplete, of an unknown format, or does not match its manifest."""


class VoiceActivityUnavailable(ModelError):
    """The voice activity detection network is missing or damaged."""


class SpeakersUnavailable(ModelError):
    """The speaker network is missing or damaged."""


class ParityMissed(ModelError):
    """The exported network does not agree with the PyTorch reference."""
