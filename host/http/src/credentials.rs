use axum::http::{HeaderMap, Uri, header};
use cookie::Cookie;
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};

/// The token of `Authorization: Bearer`, whose scheme may be written in any case.
pub fn bearer(headers: &HeaderMap) -> Option<String> {
    let Authorization(bearer) = headers.typed_get::<Authorization<Bearer>>()?;
    let token = bearer.token().trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// The token of `?token=`, for browsers, which cannot give a WebSocket a header. The first one
/// counts.
pub fn query_token(uri: &Uri) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
    let (_, token) = pairs.find(|(name, _)| name == "token")?;
    (!token.is_empty()).then(|| token.into_owned())
}

/// The values of the cookies with this name, decoded, in their order. What stands beside them
/// does not matter: pairs that are malformed are passed over one by one, because another program
/// on the same host may have set them.
pub fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let cookie = Cookie::parse_encoded(std::str::from_utf8(pair).ok()?).ok()?;
        (cookie.name() == name).then(|| cookie.value_trimmed().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(header::HeaderName, &[u8])]) -> HeaderMap {
        let value = |bytes| HeaderValue::from_bytes(bytes).expect("bytes that a header may hold");
        pairs.iter().map(|(name, bytes)| (name.clone(), value(bytes))).collect()
    }

    #[test]
    fn a_bearer_is_read_in_any_case_and_with_spaces_around_it() {
        let cases: &[(&str, Option<&str>)] = &[
            ("Bearer b", Some("b")),
            ("bearer b", Some("b")),
            ("Bearer  b ", Some("b")),
            ("Bearer ", None),
            ("b", None),
            ("Basic b", None),
        ];
        for (value, expected) in cases {
            let headers = headers(&[(header::AUTHORIZATION, value.as_bytes())]);
            assert_eq!(bearer(&headers).as_deref(), *expected, "{value:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn the_first_token_of_a_query_counts() {
        let cases = [
            ("/", None),
            ("/?token=", None),
            ("/?tokens=q", None),
            ("/?a=1&token=q%2Bq&token=r", Some("q+q")),
        ];
        for (uri, expected) in cases {
            let uri = uri.parse().expect("a well-formed URI");
            assert_eq!(query_token(&uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn foreign_cookies_hide_none_of_ours() {
        let lines: &[&[u8]] = &[
            b"a=1; b=\xff\xfe; quoted=\"x;y\"; =nothing; s=one",
            b"x=%ff; s=\"two%2B\"; xs=no; s",
            b"s=%ff",
        ];
        let lines: Vec<_> = lines.iter().map(|line| (header::COOKIE, *line)).collect();
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(name, HeaderValue::from_bytes(line).expect("a header"));
        }
        let found: Vec<_> = cookies(&headers, "s").collect();
        assert_eq!(found, ["one", "two+"]);
    }
}
