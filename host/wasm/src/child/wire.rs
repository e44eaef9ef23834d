//! What a compiler and the program that started it say to each other: one request, one answer.
//!
//! Both are a byte that says what it is, the length of the rest in eight bytes (little endian), and the rest.
//! They are the same program on the same machine, so there is no version.

use std::io;
use std::io::{Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How soon an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Somebody waits: the baseline compiler, where there is one and it can.
    Now,
    /// Nobody waits: the optimising compiler, behind everything else that the machine does.
    Later,
}

/// Which compiler made some code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compiler {
    Baseline,
    Optimising,
}

/// The code, or what is wrong with the file.
pub(crate) type Answer = Result<(Compiler, Vec<u8>), String>;

const NOW: u8 = 1;
const LATER: u8 = 2;

const FAULT: u8 = 0;
const BASELINE: u8 = 1;
const OPTIMISING: u8 = 2;

/// Asks.
pub(super) async fn ask(
    mut to: impl AsyncWrite + Unpin,
    haste: Haste,
    file: &[u8],
) -> io::Result<()> {
    let haste = if haste == Haste::Now { NOW } else { LATER };
    to.write_all(&head(haste, file)).await?;
    to.write_all(file).await
}

/// Waits to be asked. None when whoever could ask is gone.
pub(super) fn asked(mut from: impl Read) -> io::Result<Option<(Haste, Vec<u8>)>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let haste = match kind {
        [NOW] => Haste::Now,
        [LATER] => Haste::Later,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut len = [0; 8];
    from.read_exact(&mut len)?;
    let mut file = vec![0; length(len, usize::MAX)?];
    from.read_exact(&mut file)?;
    Ok(Some((haste, file)))
}

/// Answers.
pub(super) fn answer(mut to: impl Write, answer: &Answer) -> io::Result<()> {
    let (kind, rest) = match answer {
        Ok((Compiler::Baseline, code)) => (BASELINE, &**code),
        Ok((Compiler::Optimising, code)) => (OPTIMISING, &**code),
        Err(fault) => (FAULT, fault.as_bytes()),
    };
    to.write_all(&head(kind, rest))?;
    to.write_all(rest)
}

/// Waits for the answer, of which the rest may have `most` bytes.
pub(super) async fn answered(mut from: impl AsyncRead + Unpin, most: usize) -> io::Result<Answer> {
    let kind = from.read_u8().await?;
    let mut len = [0; 8];
    from.read_exact(&mut len).await?;
    let mut rest = vec![0; length(len, most)?];
    from.read_exact(&mut rest).await?;
    match kind {
        BASELINE => Ok(Ok((Compiler::Baseline, rest))),
        OPTIMISING => Ok(Ok((Compiler::Optimising, rest))),
        FAULT => Ok(Err(String::from_utf8_lossy(&rest).into_owned())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn head(kind: u8, rest: &[u8]) -> [u8; 9] {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&(rest.len() as u64).to_le_bytes());
    head
}

fn length(len: [u8; 8], most: usize) -> io::Result<usize> {
    let len = usize::try_from(u64::from_le_bytes(len)).ok().filter(|len| *len <= most);
    len.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_what_is_heard() {
        for haste in [Haste::Now, Haste::Later] {
            let mut said = Vec::new();
            ask(&mut said, haste, b"a file").await.unwrap();
            assert_eq!(asked(&*said).unwrap(), Some((haste, b"a file".to_vec())));
            assert!(asked(&said[..said.len() - 1]).is_err());
        }
        assert_eq!(asked(&[][..]).unwrap(), None);
        for given in [
            Ok((Compiler::Baseline, b"code".to_vec())),
            Ok((Compiler::Optimising, Vec::new())),
            Err("what is wrong".into()),
        ] {
            let mut said = Vec::new();
            answer(&mut said, &given).unwrap();
            assert_eq!(answered(&*said, 1024).await.unwrap(), given);
            assert!(answered(&said[..said.len() - 1], 1024).await.is_err());
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_longer_than_it_may_be_is_none() {
        let mut said = Vec::new();
        answer(&mut said, &Err("four".into())).unwrap();
        assert!(answered(&*said, 4).await.is_ok());
        assert!(answered(&*said, 3).await.is_err());
    }
}
