//! Mails with links: to verify an address or reset a password.

use std::sync::Arc;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::Semaphore;

use crate::limits;

/// A mail.
#[derive(Clone)]
pub struct Mail {
    /// The recipient's address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// One sentence about what the link does.
    pub text: String,
    /// The link. Whoever has it can use it.
    pub link: String,
}

/// Sends mails.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Sends a mail. The error says why it was not sent.
    async fn send(&self, mail: Mail) -> Result<(), MailError>;
}

/// Why a mail was not sent. It does not repeat the link.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MailError(String);

/// Writes links to the log instead: for development without a mail server.
pub struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let Mail { to, subject, link, .. } = mail;
        tracing::info!("mail to {to}, {subject}: {link}");
        Ok(())
    }
}

/// Sends mails by SMTP.
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl SmtpMailer {
    /// `url` is like `smtps://user:password@mail.example.com`, or `smtp://…?tls=required` for
    /// STARTTLS. `from` is like `Name <address@example.com>`.
    pub fn new(url: &str, from: &str) -> Result<Self, MailError> {
        // Neither error repeats the URL, which has a password in it.
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|error| MailError(format!("not the URL of a mail server: {error}")))?
            .build();
        let from = from
            .parse()
            .map_err(|error| MailError(format!("{from:?} is not a sender: {error}")))?;
        Ok(Self { transport, from })
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let failed = |error: &dyn std::fmt::Display| MailError(error.to_string());
        let to = mail.to.parse().map_err(|error| failed(&error))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            .body(format!("{}\n\n{}\n", mail.text, mail.link))
            .map_err(|error| failed(&error))?;
        self.transport.send(message).await.map(drop).map_err(|error| failed(&error))
    }
}

/// Sends mails in the background: waiting for one would reveal that an account exists.
#[derive(Clone)]
pub(crate) struct Outgoing {
    mailer: Arc<dyn Mailer>,
    places: Arc<Semaphore>,
}

impl Outgoing {
    pub fn new(mailer: Arc<dyn Mailer>) -> Self {
        Self { mailer, places: Arc::new(Semaphore::new(limits::MAILS)) }
    }

    pub fn send(&self, mail: Mail) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!("a mail was not sent: {} others are under way", limits::MAILS);
            return;
        };
        let mailer = self.mailer.clone();
        // The task ends by itself, because the transport has timeouts.
        tokio::spawn(async move {
            if let Err(error) = mailer.send(mail).await {
                tracing::warn!("a mail was not sent: {error}");
            }
            drop(place);
        });
    }
}
