//! Configuration of the receivers that get alarms and finished calls: webhooks, mail and Telegram. The alarm command is
//! configured in `alerts`.

use std::path::PathBuf;

use crate::call::phrasebook::TextLanguage;

/// The receivers that the sections `[alerts]` and `[webhook]` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Name of this recorder (`calls.appliance`), for subject lines.
    pub appliance: String,
    /// Language of mail and Telegram. Webhooks are for programs and stay in English.
    pub(crate) language: TextLanguage,
    /// Webhook that gets alarms; `None` if there is none.
    pub alarms: Option<WebhookConfig>,
    /// Webhook that gets finished calls; `None` if there is none.
    pub calls: Option<WebhookConfig>,
    /// Mail server and addresses for alarms; `None` if no mail is sent.
    pub mail: Option<MailConfig>,
    /// Telegram chat for alarms; `None` if none is configured.
    pub telegram: Option<TelegramConfig>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        let appliance = crate::call::config::Config::default().appliance;
        Self { appliance, language: TextLanguage::En, alarms: None, calls: None, mail: None, telegram: None }
    }
}

/// A webhook: a URL to which messages are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// URL to which messages are sent by POST.
    pub url: String,
    /// Secret with which messages are signed.
    pub secret: NotifySecret,
}

/// A mail server, and the addresses of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailConfig {
    /// Mail server as `HOST:PORT`.
    pub server: String,
    /// Encryption of the connection to the server.
    pub tls: MailTls,
    /// Address in the From header of the mail.
    pub from: String,
    /// Addresses to which the mail is sent.
    pub to: Vec<String>,
    /// Login name at the server; empty if no login is needed.
    pub login: String,
    /// Password for the login, or the file that contains it.
    pub password: NotifySecret,
}

/// Encryption of the connection to a mail server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MailTls {
    /// The connection starts unencrypted and changes to TLS by STARTTLS (RFC 3207). If the server does not offer
    /// STARTTLS, no mail is sent.
    #[default]
    StartTls,
    /// TLS from the first byte of the connection (RFC 8314).
    Tls,
    /// No encryption: mail and password can be read on the way.
    None,
}

/// A chat of Telegram, and the bot that writes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelegramConfig {
    /// URL of the Bot API of Telegram; another server can stand in for it in tests.
    pub url: String,
    /// Secret token of the bot.
    pub token: NotifySecret,
    /// Id of the chat that gets the alarms.
    pub chat: String,
}

/// A secret, or the file that contains it. The secret is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NotifySecret {
    /// The secret as written in the configuration; `None` if it is in a file or missing.
    pub(crate) text: Option<String>,
    /// File that contains the secret. The file is read at each use, so a new secret needs no restart.
    pub(crate) file: Option<PathBuf>,
}

impl NotifySecret {
    /// Returns the secret from the configuration or from the file; `None` if neither is configured.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is empty.
    pub(crate) fn read(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.file else { return Ok(self.text.clone()) };
        let failed = |error: std::io::Error| format!("the secret in {} cannot be read: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(failed)?;
        match text.trim() {
            "" => Err(format!("the secret in {} is empty", file.display())),
            text => Ok(Some(text.to_owned())),
        }
    }
}

impl std::fmt::Debug for NotifySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NotifySecret({}, {:?})", if self.text.is_some() { "…" } else { "none" }, self.file)
    }
}
