//! `GET /error`: where a browser lands when a link does not work.

use super::exchange::Exchange;
use super::reply::{Answer, Reply};

/// Shows the error. In production, redirects to the site's own page instead.
pub(super) fn show(exchange: &Exchange) -> Answer {
    let code = exchange.query("error").filter(|code| {
        code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'_-".contains(&byte))
    });
    let code = code.unwrap_or("UNKNOWN");
    let description = exchange.query("error_description");
    if exchange.inner().config.production {
        let mut parameters = vec![("error", code)];
        parameters.extend(description.map(|description| ("error_description", description)));
        let query = serde_urlencoded::to_string(parameters).unwrap_or_default();
        return Ok(Reply::Redirect(format!("/?{query}")));
    }
    let description = description.unwrap_or("Something went wrong. Please try again.");
    Ok(Reply::Page(format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Error</title>\n\
         <style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 20vh auto; \
         padding: 0 1rem; color-scheme: light dark }}</style>\n\
         <h1>Error</h1>\n\
         <p>{}</p>\n\
         <p><code>{}</code></p>\n\
         <p><a href=\"/\">Go home</a></p>\n\
         </html>\n",
        escape(description),
        escape(code),
    )))
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}
