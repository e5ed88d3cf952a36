"""Every error that kobs raises: one class a mistake, all of them a `KobsError`."""


class KobsError(Exception):
    """Base of every error that kobs raises on purpose."""


class ConfigError(KobsError, ValueError):
    """A keyword argument, environment variable or option has a value that is not allowed."""


class SchemaError(KobsError, TypeError):
    """A payload type's declaration cannot be laid out (unknown field type, too large, bad name)."""


class FieldError(KobsError, ValueError):
    """A payload was given an unknown, missing, mistyped or out-of-range field."""


class FieldTypeError(FieldError, TypeError):
    """A payload's field was given a value of the wrong type."""


class ClosedError(KobsError):
    """A collector, subscriber or recording was used after it was closed."""


class RecordingError(KobsError):
    """A file is no recording, or one that cannot be read: truncated, corrupted, wrong version."""


class SessionError(KobsError):
    """A session folder is missing, unreadable, or cannot be created or written."""


class CoreUnavailableError(KobsError, ImportError):
    """The core that was asked for by `KOBS_CORE` is not there."""


class MissingExtraError(KobsError, ImportError):
    """An optional dependency is missing; the message names the extra that installs it."""


class UnknownSubsystemError(KobsError, LookupError):
    """`observe` or an option names a subsystem that no vocabulary is registered for."""


class ObserveError(KobsError, TypeError):
    """`observe` or `emits` was given something that cannot be observed or extracted as asked."""


class PatternError(KobsError, TypeError):
    """A pattern was combined or used in a way that has no meaning."""


class BaselineError(KobsError):
    """A baseline file is missing, cannot be read or written, or holds what is not understood."""
