//! A WebSocket client that costs little, because it shares the machine with what it measures.
//!
//! It reads into one buffer and hands out messages as ranges of it, so a message costs no memory
//! of its own. It knows as much of the protocol as the servers use towards it: whole messages,
//! unmasked. A message in fragments is an error that says so.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

/// The buffer of a client that waits; thousands of them are held at once.
const SMALL: usize = 1024;
/// What a client reads at most in one go, unless a message is larger.
const LARGE: usize = 64 * 1024;
/// No mask of zeros: some servers skip the unmasking then, which browsers never let them do.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// The reading half, and the connection.
pub struct Socket {
    pub writer: SocketWriter,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// The writing half. Clones write to the same connection.
#[derive(Clone)]
pub struct SocketWriter {
    stream: Rc<TcpStream>,
}

impl Socket {
    /// Connects and shakes hands.
    pub async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("{address} does not accept a connection"))?;
        stream.set_nodelay(true)?;
        let stream = Rc::new(stream);
        let mut socket =
            Self { writer: SocketWriter { stream }, buffer: vec![0; SMALL], start: 0, end: 0 };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.writer.write(request.as_bytes()).await?;
        loop {
            socket.fill().await.with_context(|| format!("no answer for {path}"))?;
            let head = &socket.buffer[..socket.end];
            let Some(length) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            if !head.starts_with(b"HTTP/1.1 101") {
                bail!("{path} was answered with {:?}", String::from_utf8_lossy(&head[..length]));
            }
            socket.start = length + 4;
            return Ok(socket);
        }
    }

    /// Waits until there is something to read, and reads it.
    pub async fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            self.writer.stream.readable().await?;
            match self.writer.stream.try_read(&mut self.buffer[self.end..]) {
                Ok(0) => bail!("the server ended the connection"),
                Ok(count) => {
                    self.end += count;
                    // A buffer that was filled is too small for what this connection brings.
                    if self.end == self.buffer.len() && self.buffer.len() < LARGE {
                        self.buffer.resize(self.buffer.len() * 4, 0);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("the connection broke"),
            }
        }
    }

    /// The next message that has arrived whole.
    pub fn message(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            let bytes = &self.buffer[self.start..self.end];
            let [first, second, rest @ ..] = bytes else { return Ok(None) };
            let (head, length) = match (second & 0x7f, rest) {
                (126, [a, b, ..]) => (4, u16::from_be_bytes([*a, *b]) as usize),
                (127, [a, b, c, d, e, f, g, h, ..]) => {
                    (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize)
                }
                (126 | 127, _) => return Ok(None),
                (length, _) => (2, length as usize),
            };
            if bytes.len() < head + length {
                return Ok(None);
            }
            let payload = self.start + head..self.start + head + length;
            self.start = payload.end;
            if first & 0x80 == 0 || second & 0x80 != 0 {
                bail!("the server sent a message in fragments, or masked");
            }
            match first & 0x0f {
                BINARY => return Ok(Some(payload)),
                PING => self.writer.try_pong(&self.buffer[payload]),
                CLOSE => {
                    let payload = &self.buffer[payload];
                    let code = payload.get(..2).map_or(0, |c| u16::from_be_bytes([c[0], c[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    bail!("the server closed the socket with {code} {reason:?}");
                }
                _ => {}
            }
        }
    }

    /// Waits for a message.
    pub async fn next(&mut self) -> Result<Range<usize>> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The bytes of a message, until the next read.
    pub fn bytes(&self, message: Range<usize>) -> &[u8] {
        &self.buffer[message]
    }
}

impl SocketWriter {
    /// Sends one message.
    pub async fn send(&self, message: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(message.len() + 14);
        write_frame(&mut frame, message);
        self.write(&frame).await
    }

    /// Writes bytes that are frames already.
    pub async fn write(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error).context("the connection broke"),
            }
        }
        Ok(())
    }

    fn try_pong(&self, payload: &[u8]) {
        let mut frame = Vec::new();
        write_frame_of(&mut frame, 10, payload);
        // A full send buffer means that the server hears from this client anyway.
        let _ = self.stream.try_write(&frame);
    }
}

/// Appends a binary message as a client sends it.
pub fn write_frame(out: &mut Vec<u8>, message: &[u8]) {
    write_frame_of(out, BINARY, message);
}

fn write_frame_of(out: &mut Vec<u8>, kind: u8, message: &[u8]) {
    out.push(0x80 | kind);
    match message.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(message.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
