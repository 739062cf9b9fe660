"""Who somebody is, and what follows from that: signatures, temporary credentials, scopes, roles."""

import datetime
import json
import urllib.parse

import mohawk

import taskcluster

from services.server import from_now, now, refused

NAME = "project/py-sessions/somebody"


def scopes_of(auth):
    return sorted(auth.currentScopes()["scopes"])


def scopes_are_expanded_and_made_few(s):
    expanded = s.auth.expandScopes({"scopes": ["queue:a", "queue:*", "assume:no-such-role"]})["scopes"]
    assert sorted(expanded) == ["assume:no-such-role", "queue:*"], expanded
    assert s.anonymous("Auth").expandScopes({"scopes": ["a", "ab", "b*", "b*c"]})["scopes"] == ["a", "ab", "b*"]
    refused(400, "InputValidationError", s.auth.expandScopes, {"scopes": ["line\nbreak"]})


def temporary_credentials_have_their_scopes_for_their_time(s):
    some = s.temporary("auth:current-scopes", "queue:cancel-task:a/*")
    assert some["clientId"] == s.client_id
    scopes = scopes_of(s.client("Auth", some))
    assert set(some_of(scopes, "queue:cancel-task:")) == {"queue:cancel-task:a/*"} and "*" not in scopes, scopes
    named = s.temporary("auth:current-scopes", name=NAME)
    assert named["clientId"] == NAME
    assert "auth:current-scopes" in scopes_of(s.client("Auth", named))
    over = s.temporary("auth:current-scopes", start={"hours": -3}, expiry={"hours": -1})
    soon = s.temporary("auth:current-scopes", start={"hours": 1}, expiry={"hours": 2})
    for wrong in (over, soon):
        refused(401, "AuthenticationFailed", s.client("Auth", wrong).currentScopes)


def some_of(scopes, prefix):
    return [scope for scope in scopes if scope.startswith(prefix)]


def credentials_that_somebody_changed_are_worth_nothing(s):
    def changed(credentials, **more):
        certificate = {**json.loads(credentials["certificate"]), **more}
        return {**credentials, "certificate": json.dumps(certificate)}

    plain = s.temporary("auth:current-scopes")
    named = s.temporary("auth:current-scopes", name=NAME)
    wrong = [
        changed(plain, scopes=["*"]),
        changed(plain, expiry=json.loads(plain["certificate"])["expiry"] + 1000),
        changed(plain, issuer=s.client_id),
        changed(plain, signature="AAAA"),
        changed(named, issuer="somebody-else"),
        {**named, "clientId": "somebody-else"},
        {**plain, "accessToken": s.access_token},
        {"clientId": s.client_id, "accessToken": "wrong"},
        {"clientId": "nobody-at-all", "accessToken": s.access_token},
    ]
    for credentials in wrong:
        message = refused(401, "AuthenticationFailed", s.client("Auth", credentials).currentScopes)
        assert s.access_token not in message, "a secret is in an error"
    # A star stands for something at the end of a scope only.
    middle = s.temporary("queue:*:task", "auth:current-scopes")
    refused(403, "InsufficientScopes", s.client("Queue", middle).cancelTask, s.create(s.pool()))


def authorized_scopes_can_only_be_fewer(s):
    less = s.client("Auth", authorizedScopes=["auth:current-scopes", "queue:x"])
    assert "queue:x" in scopes_of(less) and "*" not in scopes_of(less)
    some = s.temporary("auth:current-scopes", "queue:x")
    more = s.client("Auth", some, authorizedScopes=["auth:current-scopes", "queue:y"])
    refused(401, "AuthenticationFailed", more.currentScopes)


def test_authentication_says_what_is_wrong(s):
    # Fixed credentials, for people who write clients.
    tester = {"clientId": "tester", "accessToken": "no-secret"}
    auth = s.client("Auth", tester)
    answer = auth.testAuthenticate({"clientScopes": ["test:*"], "requiredScopes": ["test:a"]})
    assert answer["clientId"] == "tester" and "test:*" in answer["scopes"], answer
    refused(403, "InsufficientScopes", auth.testAuthenticate, {"clientScopes": ["test:*"], "requiredScopes": ["other"]})
    assert auth.testAuthenticateGet()["clientId"] == "tester"
    wrong = s.client("Auth", {**tester, "accessToken": "wrong"})
    refused(401, "AuthenticationFailed", wrong.testAuthenticateGet)
    start, expiry = now() - datetime.timedelta(minutes=1), now() + datetime.timedelta(hours=1)
    named = taskcluster.createTemporaryCredentials("tester", "no-secret", start, expiry, ["test:b"], "test/named")
    answer = s.client("Auth", named).testAuthenticate(
        {"clientScopes": ["test:*", "auth:create-client:test/named"], "requiredScopes": ["test:b"]}
    )
    assert answer["clientId"] == "test/named" and "test:b" in answer["scopes"], answer


def signature(s, url, method="GET", content="", content_type="", **more):
    credentials = {"id": s.client_id, "key": s.access_token, "algorithm": "sha256"}
    return mohawk.Sender(credentials, url, method, content=content, content_type=content_type, **more).request_header


def a_signature_is_good_once_and_for_what_it_signed(s):
    url = s.url("/api/auth/v1/scopes/current")
    header = signature(s, url)

    def status(address, authorization):
        return s.http.get(address, headers={"Authorization": authorization}, timeout=60).status_code

    assert status(url, header) == 200
    assert status(url, header) == 401, "a signature was replayed"
    assert status(url + "?x=1", signature(s, url)) == 401, "another address"
    assert status(url, signature(s, url, method="POST")) == 401, "another method"
    assert status(url, signature(s, url, _timestamp=int(now().timestamp()) - 3 * 3600)) == 401, "long ago"
    assert status(url, "Hawk id=nonsense") == 401
    assert status(url, "Basic dGVzdDp0ZXN0") == 401
    body = json.dumps({"scopes": ["a"]})
    url = s.url("/api/auth/v1/scopes/expand")
    header = signature(s, url, "POST", body, "application/json")
    answer = s.http.post(url, data=body + " ", headers={"Authorization": header, "Content-Type": "application/json"}, timeout=60)
    assert answer.status_code == 401, "another body"


def services_ask_who_somebody_is(s):
    url = "https://tc.example.com/api/other/v1/thing?a=b"
    parts = urllib.parse.urlsplit(url)
    asked = {"method": "get", "resource": parts.path + "?" + parts.query, "host": parts.hostname, "port": 443}
    answer = s.auth.authenticateHawk({**asked, "authorization": signature(s, url)})
    assert (answer["status"], answer["clientId"], answer["scheme"]) == ("auth-success", s.client_id, "hawk"), answer
    assert "*" in answer["scopes"] and answer["expires"], answer
    answer = s.auth.authenticateHawk({**asked, "resource": "/other", "authorization": signature(s, url)})
    assert answer["status"] == "auth-failed" and answer["message"], answer
    answer = s.anonymous("Auth").authenticateHawk(asked)
    assert answer["status"] == "no-auth" and "queue:get-artifact:public/*" in answer["scopes"], answer


def clients_and_roles_are_read(s):
    clients = s.auth.listClients()["clients"]
    assert s.client_id in [client["clientId"] for client in clients], clients
    client = s.auth.client(s.client_id)
    assert client["scopes"] == ["*"] and client["disabled"] is False, client
    assert s.access_token not in json.dumps(clients) + json.dumps(client)
    refused(404, "ResourceNotFound", s.auth.client, "nobody-at-all")
    assert s.auth.listClients(query={"prefix": "nobody-at-all"})["clients"] == []

    role = s.auth.role("anonymous")
    assert "queue:get-artifact:public/*" in role["scopes"] and role["expandedScopes"], role
    assert "anonymous" in [role["roleId"] for role in s.auth.listRoles()]
    assert "anonymous" in [role["roleId"] for role in s.auth.listRoles2()["roles"]]
    assert "anonymous" in s.auth.listRoleIds()["roleIds"]
    refused(404, "ResourceNotFound", s.auth.role, "nobody-at-all")
    expanded = s.auth.expandScopes({"scopes": ["assume:anonymous"]})["scopes"]
    assert "queue:get-artifact:public/*" in expanded, expanded


def roles_stand_for_scopes(s):
    scopes = scopes_of(s.client("Auth", s.reader))
    assert {"auth:current-scopes", "secrets:get:project/py-sessions/*", "queue:route:index.py-project.one.*"} <= set(scopes), scopes
    assert s.auth.expandScopes({"scopes": ["assume:py-project:two"]})["scopes"] == [
        "assume:py-project:two",
        "queue:route:index.py-project.two.*",
    ]
    assert "secrets:get:project/py-sessions/*" in s.auth.role("py-sessions:reader")["expandedScopes"]
    # Temporary credentials of a client have no more than it has.
    more = taskcluster.createTemporaryCredentials(
        s.reader["clientId"], s.reader["accessToken"], now(), now() + datetime.timedelta(hours=1), ["secrets:set:*"]
    )
    refused(401, "AuthenticationFailed", s.client("Auth", more).currentScopes)


def clients_and_roles_are_made_and_changed(s):
    name, role = "project/py-sessions/made", "py-sessions:made"
    s.auth.createRole(role, {"scopes": ["auth:current-scopes", "queue:made"], "description": "a check"})
    description = {"expires": from_now(hours=1), "description": "a check", "scopes": ["assume:" + role]}
    made = s.auth.createClient(name, description)
    credentials = {"clientId": name, "accessToken": made["accessToken"]}
    assert "queue:made" in scopes_of(s.client("Auth", credentials))
    s.auth.updateRole(role, {"scopes": ["auth:current-scopes", "queue:changed"], "description": "a check"})
    scopes = scopes_of(s.client("Auth", credentials))
    assert "queue:changed" in scopes and "queue:made" not in scopes, scopes
    reset = s.auth.resetAccessToken(name)
    refused(401, "AuthenticationFailed", s.client("Auth", credentials).currentScopes)
    credentials["accessToken"] = reset["accessToken"]
    assert scopes_of(s.client("Auth", credentials))
    assert s.auth.disableClient(name)["disabled"] is True
    refused(401, "AuthenticationFailed", s.client("Auth", credentials).currentScopes)
    assert s.auth.enableClient(name)["disabled"] is False
    assert scopes_of(s.client("Auth", credentials))
    some = s.limited("Auth", "auth:create-client:*")
    refused(403, "InsufficientScopes", some.createClient, name + "-2", {**description, "scopes": ["queue:more"]})
    s.auth.deleteClient(name)
    s.auth.deleteRole(role)
    refused(404, "ResourceNotFound", s.auth.client, name)
    refused(404, "ResourceNotFound", s.auth.role, role)


def tunnels_have_tokens(s):
    answer = s.auth.websocktunnelToken("py-sessions", "worker-1")
    assert (answer["wstAudience"], answer["wstClient"]) == ("py-sessions", "worker-1"), answer
    assert len(answer["token"].split(".")) == 3 and answer["expires"] > from_now(), answer.keys()
    refused(403, "InsufficientScopes", s.limited("Auth", "auth:websocktunnel-token:other/*").websocktunnelToken, "py", "w")


CHECKS = [
    scopes_are_expanded_and_made_few,
    temporary_credentials_have_their_scopes_for_their_time,
    credentials_that_somebody_changed_are_worth_nothing,
    authorized_scopes_can_only_be_fewer,
    test_authentication_says_what_is_wrong,
    a_signature_is_good_once_and_for_what_it_signed,
    services_ask_who_somebody_is,
    clients_and_roles_are_read,
    roles_stand_for_scopes,
    clients_and_roles_are_made_and_changed,
    tunnels_have_tokens,
]
