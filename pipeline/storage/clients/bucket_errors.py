"""What the error of an object store means, by its code and status: pure, and one for all clients."""

import re
from typing import Optional, Tuple

from stoker.pipeline.storage.retries import TryAgain
from stoker.pipeline.storage.store import Gone, Refused
from stoker.pipeline.text import printable

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,80})\s*</Code>")
#: In a text of obstore, from the resolver of the system: glibc, musl.
_UNKNOWN_HOST = re.compile("Name or service not known|No address associated with hostname|Name does not resolve")
_REGION = re.compile(r"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")
_GONE = ("NoSuchKey", "NoSuchVersion", "BlobNotFound", "404", "NotFound")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_BEHIND_END = ("InvalidRange", "416")
_TRY_AGAIN = ("SlowDown", "Throttling", "ThrottlingException", "RequestThrottled", "TooManyRequests", "RequestTimeout",
              "RequestTimeoutException", "InternalError", "ServiceUnavailable", "ServerBusy", "OperationAborted",
              "OperationTimedOut", "BandwidthLimitExceeded", "RequestLimitExceeded", "InternalServerError")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
_WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId",
               "AuthenticationFailed", "UnrecognizedClientException", "NotSignedUp", "401")
_REGIONS = ("PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect",
            "IllegalLocationConstraintException", "301", "307")
_ADVICE = {"s3": "aws s3 ls shows what this host may do", "gs": "gcloud storage ls shows what this host may do",
           "az": "az storage blob list shows what this host may do"}


class BehindEnd(Exception):
    """A part behind the end of the file was asked for."""


def error_of(url: str, code: str, status: int, said: str, asked_s: Optional[float] = None) -> Exception:
    """What the error of a store about the file at ``url`` means: TryAgain, BehindEnd or a StoreError. ``code``: the
    store's own word for it, such as "NoSuchKey"; '' if there is none. ``status``: of HTTP; 0 if no answer came.
    ``said``: in the client's words."""
    scheme = url.split(":")[0]
    word = code or (str(status) if status else "")
    fact = printable(" ".join(("%s %s" % (word, said)).split()))[:200]
    if code in _BEHIND_END or status == 416:
        return BehindEnd(fact)
    if code in _TRY_AGAIN or status in (408, 429) or status >= 500:
        return TryAgain(fact, asked_s)
    if code in _NO_BUCKET:
        return Refused("%s: there is no such bucket (%s): look at its name, and at the account that this host uses"
                       % (url, word))
    if code in _GONE or status == 404 and not code:
        return Gone("%s is not there (%s)" % (url, word))
    if code in _EXPIRED:
        return Refused("%s: the credentials of this host have expired (%s): renew them, and start again" % (url, word))
    if code == "RequestTimeTooSkewed":
        return Refused("%s: the clock of this host differs from the store's by minutes (%s): set it" % (url, word))
    if code in _REGIONS or status in (301, 307):
        region = _REGION.search(said)
        return Refused("%s: the bucket is in another region (%s): set AWS_REGION=%s on this host"
                       % (url, word, region.group(1) if region else "the bucket's region"))
    if code in _WRONG_KEYS or status == 401:
        return Refused("%s: the store does not accept the credentials of this host (%s); %s" % (
            url, word, _ADVICE.get(scheme, "")))
    if code == "InvalidObjectState":
        return Refused("%s is in an archive (%s): restore it first" % (url, word))
    if code in ("AccessDenied", "Forbidden", "AllAccessDisabled", "AuthorizationFailure") or status == 403:
        # an answer to HEAD has no word for it: the credentials may be wrong as well
        return Refused("%s: this host may not read it (%s): give its account the rights to list and read the bucket%s; "
                       "%s" % (url, word, "" if code and not code.isdigit() and code != "Forbidden" else
                               ", or this host the right credentials", _ADVICE.get(scheme, "")))
    if status == 0:
        return TryAgain(fact, is_unknown_host=_UNKNOWN_HOST.search(said) is not None)
    return Refused("%s cannot be read: the store answers %s" % (url, fact))


def facts_of(text: str) -> Tuple[str, int]:
    """Code and status in a text of obstore, which has the store's answer in it: '' and 0 where it says none."""
    head = text.split("\nDebug source")[0]
    code, status = _CODE.search(head), _STATUS.search(head)
    return code.group(1) if code else "", int(status.group(1)) if status else 0
