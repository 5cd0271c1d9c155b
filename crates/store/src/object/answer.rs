//! Turns a store's answers into errors that are safe to show.

use std::io;

use object_store::Error as StoreError;

use crate::error::Error;
use crate::object::environment;
use crate::object_url::ObjectUrl;
use crate::redact::redact;

pub(super) fn failed(action: &'static str, url: &ObjectUrl, error: StoreError) -> Error {
    let kind = match &error {
        StoreError::NotFound { .. } => io::ErrorKind::NotFound,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    Error::Io {
        action,
        path: url.to_string().into(),
        source: io::Error::new(kind, shown(&error)),
    }
}

/// The most characters of a store's answer in a message.
const MAX_SHOWN_CHARS: usize = 1000;

/// Returns the part of a store's answer to show: one line, shortened, without secrets.
pub(super) fn shown(error: &StoreError) -> String {
    let text = match error {
        StoreError::Generic {
            store: "onnxseal",
            source,
        } => source.to_string(),
        error => brief(&error.to_string()),
    };
    let text = redact(&environment::mask(&text));
    let mut chars = text.chars();
    let mut shown: String = (chars.by_ref().take(MAX_SHOWN_CHARS))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// Puts a store's answer on one line. From XML it takes only code and message, because the rest
/// repeats the request, with the name of the key that signed it.
fn brief(text: &str) -> String {
    let Some(xml) = text.find("<?xml").or_else(|| text.find("<Error")) else {
        return text.trim().trim_end_matches(':').to_owned();
    };
    let (before, xml) = text.split_at(xml);
    let element = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim())
    };
    let parts = [element("Code"), element("Message")];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    let shown = format!("{} {}", before.trim(), parts.join(": "));
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_xml_are_cut_to_what_they_say() {
        let text = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n\
                    <Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message>\
                    <AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        let expected =
            "Server returned non-2xx status code: 403 Forbidden: InvalidAccessKeyId: No such key.";
        assert_eq!(brief(text), expected);
        assert_eq!(brief("no route to host\n"), "no route to host");
    }

    #[test]
    fn answers_are_shown_in_a_line_of_some_length() {
        let answer = format!("no\u{1b}[2J\r\n{}", "x".repeat(8 << 20));
        let shown = shown(&StoreError::Generic {
            store: "S3",
            source: answer.into(),
        });
        assert!(
            shown.starts_with("Generic S3 error: no [2J  xxx"),
            "{shown}"
        );
        assert!(shown.chars().count() < MAX_SHOWN_CHARS + 10);
    }
}
