//! A client that has joined a room.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::server::Running;
use crate::socket::Socket;
use crate::wire::{Dialect, Message};

/// How long a server may take to let a client in and send it the document.
const JOIN: Duration = Duration::from_secs(60);

/// A client that has the room's document as it was when it joined.
pub struct Client {
    pub socket: Socket,
    pub dialect: Dialect,
    pub room: String,
}

impl Client {
    /// Connects, tells the server that it has nothing, and waits for the document, which comes
    /// back as one update.
    pub async fn join(server: &Running, room: &str) -> Result<(Self, Vec<u8>)> {
        let (client, document) = Self::enter(server, room).await?;
        let document = client.payload(document)?.to_vec();
        Ok((client, document))
    }

    /// Joins without looking at the document; returns how many bytes it came in.
    pub async fn join_only(server: &Running, room: &str) -> Result<(Self, usize)> {
        let (client, document) = Self::enter(server, room).await?;
        Ok((client, document.len()))
    }

    async fn enter(server: &Running, room: &str) -> Result<(Self, Range<usize>)> {
        let entering = async {
            let socket = Socket::connect(server.address, &server.path(room)).await?;
            let mut client = Self { socket, dialect: server.dialect, room: room.to_owned() };
            for message in client.dialect.hello(room) {
                client.socket.writer.send(&message).await?;
            }
            loop {
                let message = client.socket.next().await?;
                match client.dialect.read(client.socket.bytes(message.clone()))? {
                    Message::Step1 => client.answer().await?,
                    Message::Step2(_) => return anyhow::Ok((client, message)),
                    Message::Update(_) | Message::Other => {}
                }
            }
        };
        match tokio::time::timeout(JOIN, entering).await {
            Ok(entered) => entered.with_context(|| format!("room {room} cannot be joined")),
            Err(_) => bail!("room {room} was not sent within {JOIN:?}"),
        }
    }

    /// Answers a server's step 1.
    pub async fn answer(&self) -> Result<()> {
        self.socket.writer.send(&self.dialect.nothing(&self.room)).await
    }

    fn payload(&self, message: Range<usize>) -> Result<&[u8]> {
        match self.dialect.read(self.socket.bytes(message))? {
            Message::Step2(update) | Message::Update(update) => Ok(update),
            Message::Step1 | Message::Other => bail!("the message carries no update"),
        }
    }
}
