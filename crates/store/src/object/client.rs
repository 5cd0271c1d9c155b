//! The HTTP client of stores: it follows no redirects, and limits the length of answers.
//!
//! `object_store`'s own client follows redirects, and sends headers that it does not know to be
//! secret to other hosts, such as session tokens and customers' encryption keys. It also reads
//! answers of any length.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions, Error as StoreError};
use reqwest::redirect::Policy;
use reqwest::tls::Certificate;
use reqwest::{ClientBuilder as Make, NoProxy, Proxy};

/// The most bytes of an answer other than a part of an object, such as a page of a listing with up
/// to a thousand names.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The most bytes of a refusal to read; a message shows fewer.
const MAX_REFUSAL_BYTES: usize = 16 << 10;

type Fault = Box<dyn StdError + Send + Sync>;

type Set = fn(Make, Duration) -> Make;

/// Makes the clients of this module from [`ClientOptions`].
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = client(options).map_err(|source| StoreError::Generic {
            store: "HTTP client",
            source,
        })?;
        Ok(HttpClient::new(Bounded(HttpClient::new(client))))
    }
}

#[derive(Debug)]
struct Bounded(HttpClient);

#[async_trait]
impl HttpService for Bounded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_ranged = request.headers().contains_key("range");
        let response = self.0.execute(request).await?;
        let status = response.status();
        if status.is_redirection()
            && let Some(to) = response.headers().get("location")
        {
            let fault = redirected(to.to_str().unwrap_or_default());
            return Err(HttpError::new_boxed(HttpErrorKind::Unknown, fault));
        }
        // A request for a part of an object accepts no more than that part.
        if status.is_success() && is_ranged {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let mut chunks = body.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
            if !status.is_success() && bytes.len() > MAX_REFUSAL_BYTES {
                bytes.truncate(MAX_REFUSAL_BYTES);
                break;
            }
            if bytes.len() > MAX_ANSWER_BYTES {
                let fault = format!("the answer has more than {MAX_ANSWER_BYTES} bytes, the limit");
                return Err(HttpError::new_boxed(HttpErrorKind::Decode, fault.into()));
            }
        }
        if !status.is_success() {
            bytes = String::from_utf8_lossy(&bytes).into_owned().into();
        }
        Ok(HttpResponse::from_parts(parts, bytes.into()))
    }
}

/// Makes the error for a redirect to `location`. It shows only the host, because the rest may be
/// signed.
fn redirected(location: &str) -> Fault {
    let to = match reqwest::Url::parse(location) {
        Ok(url) => url.host_str().unwrap_or("another host").to_owned(),
        Err(_) => "another path".to_owned(),
    };
    format!("it redirects to {to}, and redirects are not followed").into()
}

/// Makes the client for `options` as `object_store` does, except that it follows no redirects and
/// keeps the system's order of a host's addresses.
fn client(options: &ClientOptions) -> Result<reqwest::Client, Fault> {
    use ClientConfigKey as Key;
    let text = |key: Key| options.get_config_value(&key);
    let is = |key: Key| text(key).map_or(Ok(false), |value| flag(key, &value));
    let number = |key: Key| {
        let parse = |value: String| value.parse().map_err(|_| misread(key, "a number"));
        text(key).map(parse).transpose()
    };

    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .https_only(!is(Key::AllowHttp)?)
        .danger_accept_invalid_certs(is(Key::AllowInvalidCertificates)?)
        .http2_keep_alive_while_idle(is(Key::Http2KeepAliveWhileIdle)?)
        // The length of a compressed answer differs from the object's.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .user_agent(text(Key::UserAgent).unwrap_or_else(|| USER_AGENT.to_owned()));
    if let Some(headers) = options.get_default_headers() {
        builder = builder.default_headers(headers.clone());
    }
    if let Some(url) = text(Key::ProxyUrl) {
        let mut proxy = Proxy::all(url)?;
        if let Some(pem) = text(Key::ProxyCaCertificate) {
            builder = builder.tls_certs_merge([Certificate::from_pem(pem.as_bytes())?]);
        }
        if let Some(excludes) = text(Key::ProxyExcludes) {
            proxy = proxy.no_proxy(NoProxy::from_string(&excludes));
        }
        builder = builder.proxy(proxy);
    }
    if is(Key::NoSystemCertificates)? {
        builder = builder.tls_certs_only([]);
    }
    if is(Key::Http1Only)? {
        builder = builder.http1_only();
    }
    if is(Key::Http2Only)? {
        builder = builder.http2_prior_knowledge();
    }
    let times: [(Key, Set); 6] = [
        (Key::Timeout, Make::timeout),
        (Key::ConnectTimeout, Make::connect_timeout),
        (Key::ReadTimeout, Make::read_timeout),
        (Key::PoolIdleTimeout, Make::pool_idle_timeout),
        (Key::Http2KeepAliveInterval, Make::http2_keep_alive_interval),
        (Key::Http2KeepAliveTimeout, Make::http2_keep_alive_timeout),
    ];
    for (key, set) in times {
        if let Some(time) = text(key) {
            let time = humantime::parse_duration(&time);
            let time = time.map_err(|_| misread(key, "a time such as \"30 seconds\""))?;
            builder = set(builder, time);
        }
    }
    if let Some(n) = number(Key::PoolMaxIdlePerHost)? {
        builder = builder.pool_max_idle_per_host(n as usize);
    }
    if let Some(n) = number(Key::Http2MaxFrameSize)? {
        builder = builder.http2_max_frame_size(Some(n));
    }
    Ok(builder.build()?)
}

const USER_AGENT: &str = concat!("onnxseal/", env!("CARGO_PKG_VERSION"));

/// Reads a flag with the words that `object_store` accepts.
fn flag(key: ClientConfigKey, value: &str) -> Result<bool, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "y" => Ok(true),
        "0" | "false" | "off" | "no" | "n" => Ok(false),
        _ => Err(misread(key, "true or false")),
    }
}

fn misread(key: ClientConfigKey, expected: &str) -> Fault {
    format!("the setting {} is not {expected}", key.as_ref()).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn all_settings_are_read_as_the_store_library_reads_them() {
        use ClientConfigKey as Key;
        for (key, good, bad) in [
            (Key::AllowHttp, "TRUE", Some("2")),
            (Key::AllowInvalidCertificates, "off", Some("")),
            (Key::ConnectTimeout, "5 seconds", Some("5")),
            (Key::Http1Only, "y", Some("maybe")),
            (Key::Http2KeepAliveInterval, "1m 30s", Some("soon")),
            (Key::Http2KeepAliveTimeout, "10s", Some("-1s")),
            (Key::Http2KeepAliveWhileIdle, "on", Some("idle")),
            (Key::Http2MaxFrameSize, "65536", Some("x")),
            (Key::Http2Only, "0", Some("x")),
            (Key::NoSystemCertificates, "no", Some("x")),
            (Key::PoolIdleTimeout, "90s", Some("x")),
            (Key::PoolMaxIdlePerHost, "4", Some("x")),
            (Key::ProxyUrl, "http://user:password@localhost:3128", None),
            (Key::ReadTimeout, "30s", Some("x")),
            (Key::Timeout, "120 seconds", Some("x")),
            (Key::UserAgent, "another", None),
        ] {
            let set = |value| ClientOptions::new().with_config(key, value);
            assert!(client(&set(good)).is_ok(), "{key:?}");
            if let Some(bad) = bad {
                let error = client(&set(bad)).unwrap_err().to_string();
                assert!(error.contains(key.as_ref()), "{error}");
            }
        }
    }

    #[test]
    fn of_where_a_redirect_leads_the_host_alone_is_told() {
        let said = |to| redirected(to).to_string();
        assert!(said("https://user:pw@other.example/key?sig=abc").contains("to other.example,"));
        for to in [
            "https://user:pw@other.example/key?sig=abc",
            "/key?sig=abc",
            "",
        ] {
            assert!(
                !["pw", "sig", "key"]
                    .iter()
                    .any(|word| said(to).contains(word))
            );
        }
    }
}
