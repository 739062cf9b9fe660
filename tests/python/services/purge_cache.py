"""Requests to purge caches: who asks, and what workers are told."""

import datetime

from services.server import pages, refused


def request(cache):
    return {"cacheName": cache}


def names(answer):
    return sorted(entry["cacheName"] for entry in answer["requests"])


def of(entry):
    return "{}/{}".format(entry["provisionerId"], entry["workerType"])


def a_worker_is_told_what_to_purge(s):
    s.purge = s.client("PurgeCache")
    pool, other = s.pool(), s.pool()
    assert s.purge.purgeRequests(pool)["requests"] == []
    for cache in ("checkouts", "cargo"):
        s.purge.purgeCache(pool, request(cache))
    s.purge.purgeCache(other, request("checkouts"))
    answer = s.limited("PurgeCache", "purge-cache:purge-requests::" + pool).purgeRequests(pool)
    assert names(answer) == ["cargo", "checkouts"], answer
    for entry in answer["requests"]:
        assert of(entry) == pool, entry
        assert abs(age(entry["before"])) < 60, entry


def age(text):
    then = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()


def what_was_told_already_is_left_out(s):
    pool = s.pool()
    s.purge.purgeCache(pool, request("old"))
    (old,) = s.purge.purgeRequests(pool)["requests"]
    later = datetime.datetime.fromisoformat(old["before"].replace("Z", "+00:00")) + datetime.timedelta(milliseconds=1)
    since = later.strftime("%Y-%m-%dT%H:%M:%S.") + "{:03}Z".format(later.microsecond // 1000)
    assert names(s.purge.purgeRequests(pool, query={"since": old["before"]})) == ["old"]
    assert names(s.purge.purgeRequests(pool, query={"since": since})) == []
    # Asked for again, it is due again.
    s.purge.purgeCache(pool, request("old"))
    (new,) = s.purge.purgeRequests(pool)["requests"]
    assert new["before"] >= old["before"], (new, old)
    refused(400, "InvalidRequestArguments", s.purge.purgeRequests, pool, query={"since": "yesterday"})


def all_requests_are_listed_in_pages(s):
    pool = s.pool()
    caches = sorted("cache-{:02}".format(number) for number in range(9))
    for cache in caches:
        s.purge.purgeCache(pool, request(cache))
    listed, count = pages(s.purge.allPurgeRequests, key="requests", limit=4)
    assert sorted(entry["cacheName"] for entry in listed if of(entry) == pool) == caches and count >= 3, listed


def scopes_are_those_of_the_cache(s):
    pool = s.pool()
    some = s.limited("PurgeCache", "purge-cache:" + pool + ":mine-*")
    some.purgeCache(pool, request("mine-a"))
    refused(403, "InsufficientScopes", some.purgeCache, pool, request("other"))
    refused(403, "InsufficientScopes", s.anonymous("PurgeCache").purgeCache, pool, request("mine-a"))
    refused(403, "InsufficientScopes", some.purgeRequests, pool)
    refused(403, "InsufficientScopes", some.allPurgeRequests)
    refused(400, "InputValidationError", s.purge.purgeCache, pool, {"cacheName": 5})
    assert names(s.purge.purgeRequests(pool)) == ["mine-a"]


CHECKS = [
    a_worker_is_told_what_to_purge,
    what_was_told_already_is_left_out,
    all_requests_are_listed_in_pages,
    scopes_are_those_of_the_cache,
]
