//! Changing and deleting one's account.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::exchange::{Exchange, is_fresh};
use super::fields::Fields;
use super::reply::{Answer, Refusal, Reply};
use crate::limits;
use crate::time::Time;
use crate::users::{PasswordError, UsersError, check_length};

/// `POST /update-user`
pub(super) async fn update(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let fields = Fields::of(&body, &["record"])?;
    let (session, mut user) = exchange.session().await?;
    let given = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    };
    if fields.raw("email").is_some_and(given) {
        return Err(Refusal::EMAIL_CAN_NOT_BE_UPDATED);
    }
    let (name, image) = (fields.raw("name"), fields.raw("image"));
    if name.is_none() && image.is_none() {
        return Err(Refusal::NO_FIELDS);
    }
    if let Some(name) = name {
        user.name = text("name", name, limits::NAME)?;
    }
    match image {
        None => {}
        Some(Value::Null) => user.image = None,
        Some(image) => user.image = Some(text("image", image, limits::BODY)?),
    }
    user.updated_at = Time::now();
    if !exchange.users().database.update_user(&user).await? {
        return Err(Refusal::UNAUTHORIZED);
    }
    exchange.set_session(&session, None);
    Reply::status()
}

/// What is stored for a value: text, or a number as text. Better Auth fails on anything else (500).
fn text(name: &str, value: &Value, longest: usize) -> Result<String, Refusal> {
    let invalid = |what: String| {
        Refusal::told(StatusCode::BAD_REQUEST, format!("[body.{name}] {what}"), "VALIDATION_ERROR")
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(invalid("Invalid input: expected string".into())),
    };
    if text.len() > longest {
        return Err(invalid(format!("Too big: expected string to have <={longest} bytes")));
    }
    Ok(text)
}

/// `POST /delete-user`
pub(super) async fn delete(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    fields.optional_text("callbackURL");
    let password = fields.optional_text("password").filter(|password| !password.is_empty());
    let token = fields.optional_text("token").filter(|token| !token.is_empty());
    fields.finish()?;
    let (session, user) = exchange.session().await?;
    if !exchange.inner().config.delete_user {
        return Err(Refusal::empty(StatusCode::NOT_FOUND));
    }
    if let Some(password) = password {
        if check_length(password) == Err(PasswordError::Long) {
            return Err(Refusal::PASSWORD_TOO_LONG);
        }
        match exchange.users().check_password(&user.id, password).await? {
            None => return Err(Refusal::CREDENTIAL_ACCOUNT_NOT_FOUND),
            Some(false) => return Err(Refusal::INVALID_PASSWORD),
            Some(true) => {}
        }
    }
    if let Some(token) = token {
        if !exchange.users().take_deletion(token, &user.id).await? {
            return Err(Refusal::INVALID_TOKEN.with_status(StatusCode::NOT_FOUND));
        }
    } else if password.is_none() && !is_fresh(&session) {
        return Err(Refusal::SESSION_EXPIRED);
    }
    match exchange.users().delete(&user.id).await {
        // If a concurrent request deleted it first, it is deleted all the same.
        Ok(()) | Err(UsersError::Gone) => {}
        Err(error) => return Err(error.into()),
    }
    exchange.expire_cookies();
    Reply::json(&json!({ "success": true, "message": "User deleted" }))
}

/// `GET /list-accounts`
pub(super) async fn accounts(exchange: &mut Exchange) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown {
        account_id: String,
        provider_id: String,
        user_id: String,
        created_at: Time,
        updated_at: Time,
        id: String,
        scopes: Vec<String>,
    }
    let (_, user) = exchange.session().await?;
    let accounts = exchange.users().database.accounts(&user.id).await?;
    let shown: Vec<_> = accounts
        .into_iter()
        .map(|account| Shown {
            account_id: account.account_id,
            provider_id: account.provider_id,
            user_id: account.user_id,
            created_at: account.created_at,
            updated_at: account.updated_at,
            id: account.id,
            scopes: account
                .scope
                .unwrap_or_default()
                .split([',', ' '])
                .filter(|scope| !scope.is_empty())
                .map(str::to_owned)
                .collect(),
        })
        .collect();
    Reply::json(&shown)
}

/// `POST /unlink-account`
pub(super) async fn unlink_account(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let id = fields.text("accountId");
    fields.finish()?;
    let (_, user) = exchange.fresh_session().await?;
    let accounts = exchange.users().database.accounts(&user.id).await?;
    if accounts.len() == 1 {
        return Err(Refusal::FAILED_TO_UNLINK_LAST_ACCOUNT);
    }
    if !accounts.iter().any(|account| account.id == id) {
        return Err(Refusal::ACCOUNT_NOT_FOUND);
    }
    exchange.users().database.delete_account(id).await?;
    Reply::status()
}
