"""Sign-in by providers of identities, OpenID Connect or GitHub: the routes `/auth/{provider}/start` and `/auth/{provider}/callback`."""
