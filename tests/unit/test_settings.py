"""Settings: bad ones get one sentence that names them."""

from __future__ import annotations

import pytest

from notifications.domain.errors import ConfigFault
from notifications.settings import load
from tests.support.rows import rows

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


@pytest.mark.parametrize(("env", "sentence"), rows("settings", "refused"))
def test_a_bad_setting_is_named_in_one_sentence(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        load(env)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("url", "sentence"), rows("settings", "redis_urls_refused"))
def test_a_redis_url_that_can_not_be_is_refused_and_no_part_of_it_is_shown(url: str, sentence: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        load({"REDIS_URL": url})
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", rows("settings", "redis_urls_taken"))
def test_a_redis_url_that_the_client_takes_is_taken(url: str) -> None:
    assert load({"REDIS_URL": url}).redis_url == url


HERE = {"RECAP_WEBHOOK_URL": "http://127.0.0.1:9/in/", "RECAP_WEBHOOK_SECRET": "whsec_x"}
OUT = {"RECAP_WEBHOOK_URL": "https://own.example/in", "RECAP_WEBHOOK_SECRET": "whsec_x"}
EMULATOR = {"GOOGLE_CLOUD_PROJECT": "p", "FIRESTORE_EMULATOR_HOST": "h:1"}


@pytest.mark.parametrize(
    ("env", "channels", "with_now", "users_own"),
    [
        ({}, "outbox", "outbox", False),
        (HERE, "outbox webhook", "outbox webhook", False),
        (OUT, "outbox", "outbox", False),
        (EMULATOR | OUT, "outbox", "outbox", False),
        (OUT | {"RECAP_CHANNELS": "fcm,webhook"}, "outbox webhook", "outbox", True),
        (OUT | {"RECAP_CHANNELS": " webhook "}, "webhook", "outbox", True),
        (HERE | {"RECAP_CHANNELS": "webhook"}, "webhook", "webhook", True),
        (HERE | {"RECAP_CHANNELS": "fcm"}, "outbox", "outbox", False),
        ({"RECAP_CHANNELS": "webhook"}, "webhook", "outbox", True),  # users' own alone
        (EMULATOR | {"RECAP_CHANNELS": "webhook,fcm"}, "outbox webhook", "outbox", True),
        ({"FCM_BASE_URL": "http://127.0.0.1:9"} | HERE, "fcm webhook", "fcm webhook", False),
        (CLOUD, "fcm", "fcm", True),
        (CLOUD | OUT, "fcm webhook", "fcm", True),
        (CLOUD | OUT | {"RECAP_CHANNELS": "webhook"}, "webhook", "outbox", True),
        (CLOUD | {"RECAP_CHANNELS": "fcm,webhook"}, "fcm webhook", "fcm", True),
    ],
)
def test_a_local_store_reaches_other_machines_by_channels_that_are_named_alone(
    env: dict[str, str], channels: str, with_now: str, *, users_own: bool
) -> None:
    settings = load(env)
    assert settings.channels(pretends_time=False) == tuple(channels.split())
    assert settings.channels(pretends_time=True) == tuple(with_now.split())
    assert settings.may_reach_out("webhook", pretends_time=False) is users_own
    assert settings.may_reach_out("webhook", pretends_time=True) is False


@pytest.mark.parametrize(
    ("env", "withheld", "with_now"),
    [
        ({}, [], []),
        (HERE, [], []),
        (OUT, ["webhook"], ["webhook"]),
        (OUT | {"RECAP_CHANNELS": "fcm"}, [], []),  # it is not wanted
        (OUT | {"RECAP_CHANNELS": "webhook"}, [], ["webhook"]),
        (CLOUD | OUT, [], ["webhook"]),
    ],
)
def test_a_channel_that_is_set_and_not_used_is_told(
    env: dict[str, str], withheld: list[str], with_now: list[str]
) -> None:
    settings = load(env)
    assert [*settings.withheld(pretends_time=False)] == withheld
    assert [*settings.withheld(pretends_time=True)] == with_now


def test_the_webhooks_url_stays_as_it_is_written() -> None:
    assert load(HERE).webhook_url == "http://127.0.0.1:9/in/"


MAIL = {
    "RECAP_EMAIL_FROM": "Recap <recap@example.com>",
    "RECAP_UNSUBSCRIBE_URL": "https://app.example.com/unsubscribe/",
    "RECAP_UNSUBSCRIBE_SECRET": "hush" * 8,
}


@pytest.mark.parametrize("url", rows("settings", "smtp_urls_refused"))
def test_a_relays_url_that_can_not_be_is_refused_and_no_part_of_it_is_shown(url: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        load({**MAIL, "RECAP_SMTP_URL": url})
    assert str(caught.value).startswith("RECAP_SMTP_URL ")
    assert "as %23, %2F" in str(caught.value) or "beyond ASCII" in str(caught.value)
    assert not any(part in str(caught.value) for part in ("secret", "sec#", "user:sec", "example"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", rows("settings", "smtp_urls_taken"))
def test_a_relay_makes_mail_a_channel_but_not_at_a_time_that_is_pretended(url: str) -> None:
    settings = load({**MAIL, "RECAP_SMTP_URL": url, "RECAP_CHANNELS": "fcm,email"})
    assert (settings.smtp_url, settings.channels(pretends_time=False)) == (url, ("outbox", "email"))
    assert settings.unsubscribe_url == MAIL["RECAP_UNSUBSCRIBE_URL"]  # a mailbox follows no redirect to another slash
    is_here = any(host in url for host in ("127.0.0.1", "localhost", "[::1]"))
    assert settings.channels(pretends_time=True) == (("outbox", "email") if is_here else ("outbox",))
    assert "hush" not in repr(settings)
    assert url not in repr(settings)


def test_secrets_are_not_in_what_settings_print() -> None:
    shown = repr(load({**CLOUD, **OUT, "OPENAI_API_KEY": "sk-secret", "REDIS_URL": "redis://:pass@h:1"}))
    assert "sk-secret" not in shown
    assert "own.example" not in shown
    assert "whsec_x" not in shown
    assert "pass" not in shown


def test_a_complete_platform_is_fine() -> None:
    assert load(CLOUD).on_platform
