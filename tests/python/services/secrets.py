"""Secrets: what is written, read, listed and forgotten, and for whom."""

import asyncio

from taskcluster.helper import TaskclusterConfig

from services.server import from_now, pages, refused

PREFIX = "project/py-sessions/"


def secret(value, **times):
    return {"secret": value, "expires": from_now(**(times or {"hours": 1}))}


def a_secret_is_written_and_read(s):
    s.secrets = s.client("Secrets")
    name = PREFIX + "first"
    refused(404, "ResourceNotFound", s.secrets.get, name)
    value = {"token": "not so secret", "list": [1, {"deep": "ü"}]}
    s.secrets.set(name, secret(value))
    read = s.secrets.get(name)
    assert read["secret"] == value and from_now(minutes=59) < read["expires"] < from_now(minutes=61), read["expires"]
    s.secrets.set(name, secret({"other": True}))
    assert s.secrets.get(name)["secret"] == {"other": True}, "the last one is kept"
    s.secrets.remove(name)
    refused(404, "ResourceNotFound", s.secrets.get, name)
    s.secrets.remove(name)
    refused(400, "InputValidationError", s.secrets.set, name, {"secret": "text", "expires": from_now(hours=1)})


def an_expired_secret_is_gone(s):
    name = PREFIX + "old"
    s.secrets.set(name, secret({"a": 1}, hours=-1))
    refused(410, "ResourceExpired", s.secrets.get, name)


def names_are_listed_in_pages(s):
    names = sorted("{}many/{:02}".format(PREFIX, number) for number in range(15))

    async def set_all():
        async with s.async_client("Secrets") as secrets:
            await asyncio.gather(*[secrets.set(name, secret({"name": name})) for name in names])
            found = await asyncio.gather(*[secrets.get(name) for name in names])
            assert [answer["secret"]["name"] for answer in found] == names

    asyncio.run(set_all())
    listed, count = pages(s.secrets.list, key="secrets", limit=4)
    assert [name for name in listed if name in names] == names and count >= 4, listed


def scopes_are_those_of_the_name(s):
    name = PREFIX + "scoped/a"
    s.limited("Secrets", "secrets:set:" + PREFIX + "scoped/*").set(name, secret({"a": 1}))
    for client in (s.anonymous("Secrets"), s.limited("Secrets", "secrets:set:" + name, "secrets:get:" + name + "/b")):
        # Whether it exists is nobody's business, either.
        for asked in (name, PREFIX + "scoped/nothing"):
            refused(403, "InsufficientScopes", client.get, asked)
    refused(403, "InsufficientScopes", s.limited("Secrets", "secrets:get:*").set, name, secret({}))
    refused(403, "InsufficientScopes", s.limited("Secrets", "secrets:get:*").remove, name)
    assert s.limited("Secrets", "secrets:get:" + name).get(name)["secret"] == {"a": 1}
    refused(403, "InsufficientScopes", s.limited("Secrets", "secrets:get:*").list)


def programs_load_a_part_of_their_secrets(s):
    s.secrets.set(PREFIX + "program", secret({"common": {"url": "x"}, "app": {"token": "y"}, "other": {"token": "z"}}))
    config = TaskclusterConfig(s.root_url)
    config.auth(s.client_id, s.access_token, max_retries=0)
    loaded = config.load_secrets(PREFIX + "program", prefixes=["common", "app"], required=["url", "token"])
    assert loaded == {"url": "x", "token": "y"}, loaded.keys()


CHECKS = [
    a_secret_is_written_and_read,
    an_expired_secret_is_gone,
    names_are_listed_in_pages,
    scopes_are_those_of_the_name,
    programs_load_a_part_of_their_secrets,
]
