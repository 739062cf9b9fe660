//! The auth service.

use super::{DELETE, GET, POST, PUT, Routes, endpoint, health, list, open_question, question};
use crate::local::auth::calls::{clients, credentials, roles, scopes};

const AUTH: &str = "/api/auth/v1";

pub(super) fn add(router: Routes) -> Routes {
    let auth = |route: &str| format!("{AUTH}{route}");
    let lists = [
        ("/clients/", endpoint(GET, "listClients", clients::list)),
        ("/roles/", endpoint(GET, "listRoles", roles::list)),
        ("/roles2/", endpoint(GET, "listRoles2", roles::list_pages)),
        ("/roleids/", endpoint(GET, "listRoleIds", roles::list_ids)),
        ("/test-authenticate-get/", open_question(GET, "testAuthenticateGet", credentials::test_get)),
    ];
    lists
        .into_iter()
        .fold(health(router, AUTH), |router, (route, method)| list(router, &auth(route), method))
        .route(
            &auth("/clients/{clientId}"),
            endpoint(GET, "client", clients::get)
                .merge(endpoint(PUT, "createClient", clients::create))
                .merge(endpoint(POST, "updateClient", clients::update))
                .merge(endpoint(DELETE, "deleteClient", clients::delete)),
        )
        .route(&auth("/clients/{clientId}/reset"), endpoint(POST, "resetAccessToken", clients::reset))
        .route(&auth("/clients/{clientId}/enable"), endpoint(POST, "enableClient", clients::enable))
        .route(&auth("/clients/{clientId}/disable"), endpoint(POST, "disableClient", clients::disable))
        .route(
            &auth("/roles/{roleId}"),
            endpoint(GET, "role", roles::get)
                .merge(endpoint(PUT, "createRole", roles::create))
                .merge(endpoint(POST, "updateRole", roles::update))
                .merge(endpoint(DELETE, "deleteRole", roles::delete)),
        )
        .route(
            &auth("/scopes/expand"),
            question(POST, "expandScopes", scopes::expand).merge(endpoint(GET, "expandScopes", scopes::expand)),
        )
        .route(&auth("/scopes/current"), endpoint(GET, "currentScopes", scopes::current))
        .route(&auth("/sentry/{project}/dsn"), endpoint(GET, "sentryDSN", credentials::sentry))
        .route(
            &auth("/websocktunnel/{wstAudience}/{wstClient}"),
            endpoint(GET, "websocktunnelToken", credentials::tunnel_token),
        )
        .route(&auth("/authenticate-hawk"), open_question(POST, "authenticateHawk", credentials::hawk))
        .route(&auth("/test-authenticate"), open_question(POST, "testAuthenticate", credentials::test))
}
