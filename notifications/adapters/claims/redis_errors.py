"""What Redis and its client raise, in our words: by class where there is one, else by Redis' own first word."""

from __future__ import annotations

from redis import exceptions as errors

from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble

SERVER_TROUBLE: dict[type[Exception], str] = {  # before the classes that these derive from
    errors.OutOfMemoryError: "OOM",
    errors.ReadOnlyError: "READONLY",
    errors.BusyLoadingError: "LOADING",
    errors.MasterDownError: "MASTERDOWN",
    errors.ClusterDownError: "CLUSTERDOWN",
    errors.TryAgainError: "TRYAGAIN",
}
CODES_WITHOUT_A_CLASS = frozenset({"MISCONF", "BUSY", "NOREPLICAS", "UNBLOCKED"})
REFUSED = (errors.AuthenticationError, errors.AuthorizationError, errors.AuthenticationWrongNumberOfArgsError)
UNREACHABLE = (errors.ConnectionError, errors.TimeoutError, OSError)
CLUSTER = (errors.RedisClusterException, errors.ClusterError)
OURS_TO_TRANSLATE = (errors.RedisError, errors.RedisClusterException, OSError, ValueError)
UNAUTHENTICATED = "unauthenticated"  # a call of more than ten words by who has not logged in has no code of its own
OVER_TLS = " over TLS"
AT_ONCE = (errors.BusyLoadingError, *REFUSED)  # connection errors by their class, but a second try tells nothing new


def translated(cause: Exception, where: str) -> Exception:
    """Whether to stop claiming (ClaimsDown), to mend the settings (ConfigFault), or that one key is odd."""
    if isinstance(cause, REFUSED) or UNAUTHENTICATED in str(cause):
        return ConfigFault(f"{where} refuses the user or password in REDIS_URL; correct them.")
    if isinstance(cause, errors.NoPermissionError):
        return ConfigFault(f"{where} does not permit this user what claims need; correct its ACL.")
    if isinstance(cause, errors.AskError):  # MOVED is one too
        return ConfigFault(f"{where} is a Redis Cluster; add ?cluster=true to REDIS_URL.")
    for kind, code in SERVER_TROUBLE.items():
        if isinstance(cause, kind):
            return _serves_not(where, code)
    if isinstance(cause, CLUSTER):
        return ClaimsDown(
            "redis",
            f"{where} is no whole Redis Cluster ({type(cause).__name__}); check its nodes, "
            "or take ?cluster=true out of REDIS_URL.",
        )
    if isinstance(cause, UNREACHABLE):
        return ClaimsDown("redis", f"{where} does not answer ({_why(cause, where)}); check REDIS_URL and the server.")
    if isinstance(cause, errors.ResponseError):
        return _by_code(cause, where)
    return ClaimsDown(
        "redis", f"{where} does not speak as Redis does ({type(cause).__name__}); check REDIS_URL and the server."
    )


def lacks_a_command(cause: Exception) -> bool:
    """Whether the server does not know what it was asked."""
    return isinstance(cause, errors.ResponseError) and "unknown command" in str(cause)


def _by_code(cause: errors.ResponseError, where: str) -> Exception:
    text = str(cause)
    code = text.split(" ", 1)[0]
    if code in CODES_WITHOUT_A_CLASS:
        return _serves_not(where, code)
    if "DB index is out of range" in text:  # the one answer to SELECT that has no code
        return ConfigFault(f"{where} has no database of the number in REDIS_URL; most have 0 to 15.")
    if code == "DENIED":
        return ConfigFault(f"{where} is in protected mode and takes nobody from here; give it a password, or bind it.")
    if lacks_a_command(cause):
        return ConfigFault(
            f"{where} lacks a command that claims need; it is a Sentinel or a proxy, or rename-command hides EVALSHA."
        )
    if code == "WRONGTYPE":
        return KeyTrouble(f"{where} holds another type under one key ({code}).")
    return _serves_not(where, code if code.isalnum() else "an error without a code")


def _serves_not(where: str, code: str) -> ClaimsDown:
    return ClaimsDown("redis", f"{where} answers {code}; nothing is claimed until it serves again.")


def _why(cause: BaseException, where: str) -> str:
    """The cause's class; over TLS also what is behind most of it."""
    hint = "; a server without TLS wants redis://" if where.endswith(OVER_TLS) else ""
    return f"{type(cause).__name__}{hint}"
