//! Changing, verifying and resetting a password.

use serde_json::json;

use super::exchange::Exchange;
use super::fields::Fields;
use super::reply::{Answer, Refusal, Reply};
use crate::mail::Mail;
use crate::users::{PasswordError, UsersError, check_length};

fn check_longest(password: &str) -> Result<(), Refusal> {
    match check_length(password) {
        Err(PasswordError::Long) => Err(Refusal::PASSWORD_TOO_LONG),
        _ => Ok(()),
    }
}

/// `POST /change-password`
pub(super) async fn change(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let new = fields.text("newPassword");
    let current = fields.text("currentPassword");
    let revoke = fields.optional_flag("revokeOtherSessions").unwrap_or(false);
    fields.finish()?;
    let (_, user) = exchange.session().await?;
    check_length(new)?;
    check_longest(current)?;
    match exchange.users().check_password(&user.id, current).await? {
        None => return Err(Refusal::CREDENTIAL_ACCOUNT_NOT_FOUND),
        Some(false) => return Err(Refusal::INVALID_PASSWORD),
        Some(true) => {}
    }
    let visit = revoke.then(|| exchange.visit(false));
    let session = exchange.users().change_password(&user.id, new, visit).await?;
    if let Some(session) = &session {
        exchange.set_session(session, None);
    }
    let token = session.map(|session| session.token);
    Reply::json(&json!({ "token": token, "user": user }))
}

/// `POST /verify-password`
pub(super) async fn verify(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let password = fields.text("password");
    fields.finish()?;
    let (_, user) = exchange.session().await?;
    check_longest(password)?;
    match exchange.users().check_password(&user.id, password).await? {
        Some(true) => Reply::status(),
        _ => Err(Refusal::INVALID_PASSWORD),
    }
}

/// `POST /request-password-reset`
pub(super) async fn request_reset(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let email = fields.email("email");
    let redirect = fields.optional_text("redirectTo").unwrap_or_default();
    fields.finish()?;
    if !exchange.inner().config.password_reset {
        return Err(Refusal::RESET_PASSWORD_DISABLED);
    }
    // Does the same work whether or not the account exists. The mail is sent in the background.
    let user = exchange.users().database.user_by_email(email).await?;
    let whose = user.as_ref().map(|user| user.id.as_str()).unwrap_or_default();
    let token = exchange.users().start_reset(whose).await?;
    if let Some(user) = user {
        let path = format!("/reset-password/{token}");
        exchange.inner().mails.send(Mail {
            to: user.email,
            subject: "Set a new password".into(),
            text: "Somebody, probably you, asked to set a new password for your account. \
                   If it was you, follow this link within the hour; if not, ignore it."
                .into(),
            link: exchange.link(&path, &[("callbackURL", redirect)]),
        });
    }
    Reply::json(&json!({
        "status": true,
        "message": "If this email exists in our system, check your email for the reset link",
    }))
}

/// `GET /reset-password/:token`: redirects from the link in the mail to the page that asks for the
/// new password.
pub(super) async fn follow_link(exchange: &mut Exchange, token: &str) -> Answer {
    let Some(callback) = exchange.query("callbackURL").map(str::to_owned) else {
        let page = exchange.link("/error", &[("error", Refusal::INVALID_TOKEN.code())]);
        return Ok(Reply::Redirect(page));
    };
    exchange.check_redirect(&callback, &Refusal::INVALID_CALLBACK_URL)?;
    let known = exchange.users().reset_of(token).await?.is_some();
    let (name, value) =
        if known { ("token", token) } else { ("error", Refusal::INVALID_TOKEN.code()) };
    let url = exchange.with_parameter(&callback, name, value);
    url.map(Reply::Redirect).ok_or(Refusal::INVALID_CALLBACK_URL)
}

/// `POST /reset-password`
pub(super) async fn reset(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let new = fields.text("newPassword");
    let token = fields.optional_text("token").filter(|token| !token.is_empty());
    fields.finish()?;
    let token = token.or_else(|| exchange.query("token")).ok_or(Refusal::INVALID_TOKEN)?.to_owned();
    check_length(new)?;
    let whose = exchange.users().reset_of(&token).await?.ok_or(Refusal::INVALID_TOKEN)?;
    if exchange.users().database.user(&whose).await?.is_none() {
        return Err(Refusal::USER_NOT_FOUND);
    }
    let end_sessions = exchange.inner().config.reset_ends_sessions;
    match exchange.users().finish_reset(&token, &whose, new, end_sessions).await {
        Ok(()) => Reply::status(),
        // Another request has used the token in the meantime.
        Err(UsersError::Gone) => Err(Refusal::INVALID_TOKEN),
        Err(error) => Err(error.into()),
    }
}
