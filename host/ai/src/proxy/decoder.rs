//! Decodes an answer for its [`Meter`] if the provider compresses it unasked.
//!
//! The caller gets the original bytes; a copy is decoded on the side, and none of the decoded text
//! is kept. Corrupt data, too large a window or too much text only stops the metering: what was
//! counted until then stays counted.

use std::io::{self, Write};

use axum::http::header::{self, HeaderMap};

use super::meter::Meter;

/// Bytes decoded of one answer. Answers with usage are far smaller, and a decompression bomb is not
/// read to its end.
const TEXT: usize = 64 << 20;

/// The binary logarithm of zstd's largest window: 8 MiB, which all HTTP decoders must support and
/// no encoder may exceed (RFC 9659).
const ZSTD_WINDOW: u32 = 23;

/// Bytes that the Brotli decoder reads at once.
const BUFFER: usize = 4096;

/// The compression of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The coding of an answer; `None` if it is unknown or there are several.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut codings = headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .filter(|name| name != b"identity" && !name.is_empty());
        let coding = match codings.next().as_deref() {
            None => Self::Identity,
            Some(b"gzip" | b"x-gzip") => Self::Gzip,
            Some(b"deflate") => Self::Deflate,
            Some(b"br") => Self::Brotli,
            Some(b"zstd") => Self::Zstd,
            Some(_) => return None,
        };
        codings.next().is_none().then_some(coding)
    }
}

/// Feeds the text of an answer to a meter.
pub(super) struct Decoder(Option<Box<dyn Write + Send>>);

impl Decoder {
    pub fn new(coding: Coding, meter: Meter) -> Self {
        use flate2::write::{MultiGzDecoder, ZlibDecoder};
        let compressed = coding != Coding::Identity;
        let text = Text { meter, left: compressed.then_some(TEXT) };
        Self(match coding {
            Coding::Identity => Some(Box::new(text)),
            Coding::Gzip => Some(Box::new(MultiGzDecoder::new(text))),
            Coding::Deflate => Some(Box::new(ZlibDecoder::new(text))),
            Coding::Brotli => {
                Some(Box::new(brotli_decompressor::DecompressorWriter::new(text, BUFFER)))
            }
            Coding::Zstd => zstd::stream::write::Decoder::new(text).ok().and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW).ok()?;
                Some(Box::new(decoder) as Box<dyn Write + Send>)
            }),
        })
    }

    /// Decodes the next piece.
    pub fn read(&mut self, piece: &[u8]) {
        let Some(text) = &mut self.0 else { return };
        // Otherwise decoded text could stay in a buffer and be lost if the answer is cut off.
        if let Err(error) = text.write_all(piece).and_then(|()| text.flush()) {
            tracing::debug!(%error, "stopped counting tokens: the answer cannot be decoded");
            self.0 = None;
        }
    }
}

/// Passes text on to the meter.
struct Text {
    meter: Meter,
    /// Bytes still allowed, if there is a limit.
    left: Option<usize>,
}

impl Write for Text {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(text.len()).ok_or_else(|| {
                io::Error::other(format!("it has more than {TEXT} bytes of text"))
            })?;
        }
        self.meter.read(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;
    use crate::usage::{Days, Usage};

    const ANSWER: &str = r#"{"model":"m-1","usage":{"input_tokens":11,"output_tokens":7}}"#;
    /// The answer, compressed with Brotli.
    const BROTLI: &str =
        "Cx6AeyJtb2RlbCI6Im0tMSIsInVzYWdlIjp7ImlucHV0X3Rva2VucyI6MTEsIm91dHB1dF90b2tlbnMiOjd9fQM=";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text).and_then(|()| gzip.finish()).expect("it is compressed")
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(text).and_then(|()| zlib.finish()).expect("it is compressed")
    }

    fn compressed() -> [(Coding, Vec<u8>); 5] {
        let text = ANSWER.as_bytes();
        [
            (Coding::Identity, text.to_owned()),
            (Coding::Gzip, gzip(text)),
            (Coding::Deflate, zlib(text)),
            (Coding::Brotli, STANDARD.decode(BROTLI).expect("base64")),
            (Coding::Zstd, zstd::encode_all(text, 3).expect("it is compressed")),
        ]
    }

    /// The tokens counted for an answer that arrives in pieces of this size.
    async fn counted(coding: Coding, answer: &[u8], size: usize) -> (i64, i64) {
        let folder = tempfile::tempdir().expect("a folder");
        let usage = Usage::open(&folder.path().join("ai.db")).expect("a database");
        let mut tally = usage.tally("ada", "openai", "");
        tally.begin();
        let mut decoder = Decoder::new(coding, Meter::new(tally, false));
        for piece in answer.chunks(size) {
            decoder.read(piece);
        }
        drop(decoder);
        loop {
            let report = usage.report("ada", Days::default()).await.expect("a report");
            if let Some(spent) = report.first() {
                break (spent.input_tokens, spent.output_tokens);
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn tokens_are_counted_whatever_an_answer_is_compressed_with() {
        for (coding, answer) in compressed() {
            for size in [1, 7, answer.len()] {
                let got = counted(coding, &answer, size).await;
                assert_eq!(got, (11, 7), "{coding:?} by {size}");
            }
        }
    }

    #[tokio::test]
    async fn damage_ends_the_counting_and_nothing_else() {
        for (coding, answer) in compressed() {
            // The count may be anything, but decoding must end.
            for at in 0..answer.len() {
                let mut damaged = answer.clone();
                damaged[at] ^= 0x55;
                counted(coding, &damaged, 5).await;
            }
            // Data after the end of an answer does not change the count.
            let followed = [&*answer, b"and more"].concat();
            assert_eq!(counted(coding, &followed, answer.len()).await, (11, 7), "{coding:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_unfolds_without_end_is_not_read_to_its_end() {
        let mut text = vec![b' '; TEXT + 1];
        text.extend_from_slice(ANSWER.as_bytes());
        assert_eq!(counted(Coding::Gzip, &gzip(&text), 4096).await, (0, 0));
    }

    #[test]
    fn a_coding_is_known_if_there_is_one() {
        let cases: [(&[&str], Option<Coding>); 7] = [
            (&[], Some(Coding::Identity)),
            (&["identity"], Some(Coding::Identity)),
            (&["GZip"], Some(Coding::Gzip)),
            (&["br, identity"], Some(Coding::Brotli)),
            (&["compress"], None),
            (&["gzip, br"], None),
            (&["gzip", "zstd"], None),
        ];
        for (values, coding) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().expect("a value"));
            }
            assert_eq!(Coding::of(&headers), coding, "{values:?}");
        }
    }
}
