"""What Redis and its client raise, in our words."""

from __future__ import annotations

import re

from redis import exceptions as errors

from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble

SERVER_TROUBLE = re.compile(r"\b(OOM|READONLY|LOADING|MISCONF|BUSY|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|TRYAGAIN)\b")
REFUSED = re.compile(r"\b(NOAUTH|WRONGPASS|NOPERM)\b")


def translated(cause: Exception, where: str) -> Exception:
    """Whether to stop claiming (ClaimsDown), to mend the settings (ConfigFault), or that one key is odd."""
    text = str(cause)
    if isinstance(cause, errors.AuthenticationError | errors.AuthorizationError) or REFUSED.search(text):
        return ConfigFault(f"{where} refuses the user or password in REDIS_URL; correct them.")
    if isinstance(cause, errors.NoPermissionError):
        return ConfigFault(f"{where} does not permit this user what claims need ({text}); correct its ACL.")
    if isinstance(cause, errors.MovedError | errors.AskError) or text.startswith("MOVED"):
        return ConfigFault(f"{where} is a Redis Cluster; add ?cluster=true to REDIS_URL.")
    unreachable = isinstance(
        cause, errors.ConnectionError | errors.TimeoutError | errors.RedisClusterException | OSError
    )
    if trouble := SERVER_TROUBLE.search(text):
        return ClaimsDown("redis", f"{where} answers {trouble[0]}; nothing is claimed until it serves again.")
    if unreachable:
        return ClaimsDown("redis", f"{where} does not answer ({type(cause).__name__}); check REDIS_URL and the server.")
    return KeyTrouble(f"{where} refuses one command ({text.split(' ', 1)[0]}).")
