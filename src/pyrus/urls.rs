//! Builds the URLs of requests, and decides which hosts may receive the access token. Has no side effects.

use reqwest::Url;

use super::config::UploadVia;

/// The configured URL of the endpoint `auth`, and the base URL of the API that follows from it.
#[derive(Clone, Debug)]
pub(crate) struct AuthUrl {
    auth: Url,
    api: String,
}

/// The URLs of requests. They are known after the `auth` response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestUrls {
    /// URL of `integrations/call`, which registers a telephone call in Pyrus.
    pub(crate) call: Url,
    /// URL of `integrations/attachcallrecord`, which attaches an uploaded recording to a call.
    pub(crate) attach: Url,
    /// URL of `files/upload`, which stores a file.
    pub(crate) upload: Url,
}

impl AuthUrl {
    /// Parses the configured `auth_url`.
    ///
    /// # Errors
    /// Returns a message for the administrator.
    pub(crate) fn new(auth_url: &str) -> Result<Self, String> {
        let trimmed = auth_url.trim().trim_end_matches('/');
        let auth = Url::parse(trimmed).map_err(|e| format!("auth_url is not a valid URL: {e}"))?;
        if !is_safe(&auth) {
            return Err(String::from("auth_url must begin with https:// (http:// is allowed only for this machine)"));
        }
        if !auth.username().is_empty() || auth.password().is_some() || auth.query().is_some() {
            return Err(String::from("auth_url must have no user, password or query"));
        }
        let api = trimmed.strip_suffix("/auth").ok_or("auth_url must end in /auth")?.to_owned();
        Ok(Self { auth, api })
    }

    /// Returns the URL of the endpoint `auth`, which issues access tokens.
    pub(crate) const fn auth(&self) -> &Url {
        &self.auth
    }

    /// Returns whether Pyrus runs on this machine, e.g. in a test or a demo.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.auth)
    }

    /// Builds the request URLs from an `auth` response. Cloud Pyrus returns the base URLs of the API and of its files.
    /// A Pyrus server of the customer may return neither. Then the base of `auth_url` is used.
    ///
    /// # Errors
    /// Returns a message for the administrator if the response names a host to which the token must not be sent.
    pub(crate) fn targets(
        &self,
        api_url: Option<&str>,
        files_url: Option<&str>,
        via: UploadVia,
    ) -> Result<RequestUrls, String> {
        let api = self.base(api_url.unwrap_or(&self.api), "api_url")?;
        let upload = match (via, files_url) {
            (UploadVia::Auto | UploadVia::Files, Some(files)) => {
                join(&self.base(files, "files_url")?, "v4/files/upload")
            }
            _ => join(&api, "files/upload"),
        };
        let bad = |e| format!("Pyrus returned an invalid base URL ({e}): check auth_url");
        Ok(RequestUrls {
            call: Url::parse(&join(&api, "integrations/call")).map_err(bad)?,
            attach: Url::parse(&join(&api, "integrations/attachcallrecord")).map_err(bad)?,
            upload: Url::parse(&upload).map_err(bad)?,
        })
    }

    fn base(&self, text: &str, name: &str) -> Result<String, String> {
        let url = Url::parse(text.trim())
            .map_err(|e| format!("the {name} from Pyrus is not a valid URL ({e}): check auth_url"))?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(format!(
                "the {name} from Pyrus has a user, query or fragment: the token is not sent there; check auth_url"
            ));
        }
        if !is_safe(&url) || (is_loopback(&url) && !self.is_loopback()) {
            return Err(format!(
                "the {name} from Pyrus does not use https: the token is not sent there; check auth_url"
            ));
        }
        if !self.is_same_site(&url) {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "the {name} from Pyrus is on the foreign host {host}: the token is not sent there; check auth_url"
            ));
        }
        Ok(text.trim().trim_end_matches('/').to_owned())
    }

    /// Returns whether the access token may be sent to the host of `url`. Allowed are the host of `auth_url` and its
    /// siblings, e.g. `api.pyrus.com` for `accounts.pyrus.com`. If `auth_url` is a loopback address, only loopback
    /// addresses are allowed.
    fn is_same_site(&self, url: &Url) -> bool {
        if self.is_loopback() {
            return is_loopback(url);
        }
        let (Some(ours), Some(theirs)) = (self.auth.host_str(), url.host_str()) else { return false };
        if ours == theirs {
            return true;
        }
        // The access token may also be sent to siblings of the host of `auth_url`: hosts with the same parent domain.
        // The parent domain is the host without its first label. It needs two labels, because any two hosts can share
        // `com`. IP addresses have no siblings.
        let is_name = |host: &str| host.bytes().any(|b| b.is_ascii_alphabetic()) && !host.starts_with('[');
        let parent = |host: &str| host.split_once('.').map(|(_, rest)| rest.to_owned()).filter(|p| p.contains('.'));
        is_name(ours) && is_name(theirs) && parent(ours).is_some() && parent(ours) == parent(theirs)
    }
}

fn join(base: &str, path: &str) -> String {
    format!("{base}/{path}")
}

fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(auth: &str, api: Option<&str>, files: Option<&str>) -> Result<[String; 3], String> {
        let t = AuthUrl::new(auth)?.targets(api, files, UploadVia::Auto)?;
        Ok([t.call, t.attach, t.upload].map(String::from))
    }

    #[test]
    fn cloud_hosts_are_accepted_with_and_without_a_slash() {
        for (api, files) in [
            ("https://api.pyrus.com/v4/", "https://files.pyrus.com/"),
            ("https://api.pyrus.com/v4", "https://files.pyrus.com"),
        ] {
            let auth = "https://accounts.pyrus.com/api/v4/auth/";
            assert_eq!(
                targets(auth, Some(api), Some(files)).unwrap(),
                [
                    "https://api.pyrus.com/v4/integrations/call",
                    "https://api.pyrus.com/v4/integrations/attachcallrecord",
                    "https://files.pyrus.com/v4/files/upload"
                ]
            );
        }
    }

    #[test]
    fn server_on_premises_is_used_under_the_configured_base() {
        assert_eq!(
            targets("https://pyrus.firma.example/api/v4/auth", None, None).unwrap(),
            [
                "https://pyrus.firma.example/api/v4/integrations/call",
                "https://pyrus.firma.example/api/v4/integrations/attachcallrecord",
                "https://pyrus.firma.example/api/v4/files/upload"
            ]
        );
    }

    #[test]
    fn token_goes_neither_to_plain_http_nor_to_foreign_hosts() {
        let cloud = "https://accounts.pyrus.com/api/v4/auth";
        for api in [
            "http://api.pyrus.com/v4/",
            "https://evil.example/v4/",
            "https://api.pyrus.com.evil.example/v4/",
            "https://apipyrus.com/v4/",
            "http://127.0.0.1/v4/",
            "https://user@api.pyrus.com/v4/",
            "ftp://api.pyrus.com/",
            "nonsense",
        ] {
            assert!(targets(cloud, Some(api), None).is_err(), "{api}");
            assert!(targets(cloud, None, Some(api)).is_err(), "{api}");
        }
        let local = "http://127.0.0.1:8080/api/v4/auth";
        assert!(targets(local, Some("http://127.0.0.1:9/v4/"), Some("http://localhost:7/")).is_ok());
        assert!(targets(local, Some("http://10.0.0.1/v4/"), None).is_err());
        assert!(targets(local, Some("https://api.pyrus.com/v4/"), None).is_err());
        // The token is not sent to a host that shares only a top-level domain with `auth_url`, nor to another IP
        // address.
        assert!(targets("https://pyrus.example/api/v4/auth", Some("https://evil.example/v4"), None).is_err());
        assert!(targets("https://10.0.0.1/api/v4/auth", Some("https://11.0.0.1/v4"), None).is_err());
    }

    #[test]
    fn wrong_auth_url_is_an_error() {
        for url in
            ["", "pyrus", "http://pyrus.com/api/v4/auth", "https://pyrus.com/api/v4", "https://a:b@pyrus.com/auth"]
        {
            assert!(AuthUrl::new(url).is_err(), "{url}");
        }
    }
}
