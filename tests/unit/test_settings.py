"""Settings: bad ones get one sentence that names them."""

from __future__ import annotations

import pytest

from notifications.domain.errors import ConfigFault
from notifications.settings import load

CLOUD = {"CLOUD_RUN_JOB": "recap", "REDIS_URL": "redis://r:6379", "GOOGLE_CLOUD_PROJECT": "p", "OPENAI_API_KEY": "k"}


def test_nothing_set_means_everything_local() -> None:
    settings = load({})
    assert (settings.redis_url, settings.firestore, settings.openai, settings.fcm) == (None, False, False, False)
    assert settings.store_is_local


def test_each_part_is_replaced_by_its_own_setting() -> None:
    assert load({"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}).openai
    assert load({"FCM_BASE_URL": "http://127.0.0.1:9"}).fcm
    real = {"GOOGLE_CLOUD_PROJECT": "p", "REDIS_URL": "redis://r", "RECAP_SUMMARIZER": "extract"}
    assert load(real).fcm
    assert not load(real).openai
    assert not load({"GOOGLE_CLOUD_PROJECT": "p", "FIRESTORE_EMULATOR_HOST": "h:1"}).fcm
    assert load({"JOB_COMPLETION_INDEX": "3", "CLOUD_RUN_TASK_COUNT": "4"}).task_index == 3


def test_the_second_look_is_on_by_the_same_model_and_can_have_its_own() -> None:
    assert (load({}).verify, load({}).verify_model) == (True, None)
    own = load({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "writes", "OPENAI_VERIFY_MODEL": "judges"})
    assert (own.openai_model, own.verify_model, own.verify) == ("writes", "judges", True)
    assert load({"RECAP_VERIFY": "off"}).verify is False


def test_a_style_is_one_line_of_at_most_five_hundred_characters() -> None:
    assert load({}).style == ""
    assert load({"RECAP_STYLE": "Short sentences.\n\x07 No irony.\u202e"}).style == "Short sentences. No irony."
    assert len(load({"RECAP_STYLE": "x" * 500}).style) == 500


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"RECAP_STYLE": "x" * 501}, "RECAP_STYLE has 501 characters; it may have 500."),
        ({"RECAP_VERIFY": "yes"}, "RECAP_VERIFY is 'yes'; set it to one of on, off."),
        (
            {"OPENAI_VERIFY_MODEL": "judges", "RECAP_VERIFY": "off"},
            "OPENAI_VERIFY_MODEL is set with RECAP_VERIFY=off; unset the one that is not meant.",
        ),
        ({"OPENAI_API_KEY": '"sk-secret"'}, "OPENAI_API_KEY has quotes around its value"),
        ({"RECAP_FALLBACK": "'none'"}, "RECAP_FALLBACK has quotes around its value"),
        ({"GOOGLE_CLOUD_PROJECT": '""'}, "GOOGLE_CLOUD_PROJECT has quotes around its value"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL is malformed"),
        ({"REDIS_URL": "redis://h:notaport"}, "REDIS_URL is malformed"),
        ({"REDIS_URL": "redis://"}, "REDIS_URL is malformed"),
        ({"OPENAI_BASE_URL": "openai"}, "OPENAI_BASE_URL is malformed"),
        ({"RECAP_KEY_PREFIX": "a b"}, "RECAP_KEY_PREFIX is 'a b'"),
        ({"RECAP_KEY_PREFIX": "{a}"}, "RECAP_KEY_PREFIX is '{a}'"),
        ({"RECAP_KEY_PREFIX": "a*"}, "64 letters, digits, -, _ and : at most"),
        ({"RECAP_KEY_PREFIX": "a" * 65}, "RECAP_KEY_PREFIX is"),
        ({"FCM_BASE_URL": "ftp://x"}, "FCM_BASE_URL is malformed"),
        ({"FIRESTORE_EMULATOR_HOST": "h:1"}, "GOOGLE_CLOUD_PROJECT"),
        ({"CLOUD_RUN_TASK_INDEX": "-1"}, "CLOUD_RUN_TASK_INDEX"),
        ({"CLOUD_RUN_TASK_COUNT": "0"}, "CLOUD_RUN_TASK_COUNT"),
        ({"RECAP_LOG_FORMAT": "xml"}, "RECAP_LOG_FORMAT"),
        ({"RECAP_GRACE_SECONDS": "nan"}, "RECAP_GRACE_SECONDS is 'nan'"),
        (
            {"CLOUD_RUN_JOB": "recap"},
            "REDIS_URL, GOOGLE_CLOUD_PROJECT (or RECAP_STORE=sqlite, for users in the data folder), OPENAI",
        ),
        ({"RECAP_STORE": "sqlite", "GOOGLE_CLOUD_PROJECT": "p"}, "RECAP_STORE=sqlite and GOOGLE_CLOUD_PROJECT are"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", **CLOUD, "REDIS_URL": ""}, "REDIS_URL must be set"),
    ],
)
def test_a_bad_setting_is_named_in_one_sentence(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        load(env)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


MALFORMED, ENCODE = "REDIS_URL is malformed", "as %23, %2F, %3F or %40"
REDIS_URLS = {
    "redis://h:1/1?cluster=true": "database 0 alone",
    "redis://h:1/?cluster=Maybe": "The option cluster of REDIS_URL has a wrong value",
    "redis://h:1?cluster=": "The option cluster",
    "unix:///s?cluster=true": "reached by redis://",
    "redis://u:pa/secret@h:1/0": ENCODE,
    "redis://u:1/secret@h:1/0": ENCODE,
    "redis://u:1?secret@h:1/0": ENCODE,
    "redis://u:1#secret@h:1/0": ENCODE,
    "redis://u:secret#": ENCODE,
    "redis://u:[secret@h:1/0": ENCODE,
    "redis://u:se cret@h:1/0": ENCODE,
    "redis://h:1?secret=1": "an option that means nothing here",
    "redis://h:1?ssl_cert_reqs=none": "an option that means nothing here",
    "rediss://h:1?ssl_cert_reqs=CERT_NONE": "set it to required or optional or none",
    "rediss://h:1?ssl_cert_reqs=": "The option ssl_cert_reqs",
    "rediss://h:1?ssl_check_hostname=secret": "The option ssl_check_hostname",
    "rediss://h:1?ssl_ca_certs=/secret": "The option ssl_ca_certs of REDIS_URL names a file that can't be read",
    "rediss://h:1?ssl_keyfile=/dev/null": "without an ssl_certfile",
    "redis://h:1/secret": "a database that is no number",
    "redis://h:1/-1": "a database that is no number",
    "redis://h:1/0/1": "a database that is no number",
    "redis://h:1/99999999999": "a database that is no number",
    "redis://:6379": MALFORMED,
    "redis://:6379/0": MALFORMED,
    "redis://:secret@/0": MALFORMED,
    "redis:///0": MALFORMED,
    "redis://h:0": MALFORMED,
    "redis://h:65536": MALFORMED,
    "redis://h:-1": MALFORMED,
    "redis://[::1/0": MALFORMED,
    "redis://::1:6379/0": MALFORMED,
    "redis://h:1,h:2": MALFORMED,
    "unix://secret": MALFORMED,
    "unix:///": MALFORMED,
    "sentinel://h:1/secret": MALFORMED,
    "http://h:1/secret": MALFORMED,
    "secret": MALFORMED,
}


@pytest.mark.parametrize("url", REDIS_URLS)
def test_a_redis_url_that_can_not_be_is_refused_and_no_part_of_it_is_shown(url: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        load({"REDIS_URL": url})
    assert REDIS_URLS[url] in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "redis://h",
            "redis://h:6379/0",
            "redis://h:1/?cluster=false",
            "redis://h/0?cluster=TRUE",
            "redis://[::1]:1/3",
        ),
        *("redis://u:p@ss@h:1", "redis://u:%2F%3F%23@h:1/0", "unix:///tmp/a@b", "unix://u:p@/tmp/s"),
        "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=False&ssl_ca_certs=/dev/null",
    ],
)
def test_a_redis_url_that_the_client_takes_is_taken(url: str) -> None:
    assert load({"REDIS_URL": url}).redis_url == url


def test_secrets_are_not_in_what_settings_print() -> None:
    shown = repr(load({**CLOUD, "OPENAI_API_KEY": "sk-secret", "REDIS_URL": "redis://:pass@h:1"}))
    assert "sk-secret" not in shown
    assert "pass" not in shown


def test_a_complete_platform_is_fine() -> None:
    assert load(CLOUD).on_platform
