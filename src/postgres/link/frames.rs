//! The messages of PostgreSQL's protocol, as they go by: the type of each, and the first byte behind its length.
//!
//! They may be cut anywhere: what is read is whatever the network has. Their contents are passed over.

/// A message has a type and its length, which counts itself.
const HEAD: usize = 5;

/// Where one direction of a connection is.
pub(super) struct Frames {
    head: [u8; HEAD + 1],
    have: usize,
    /// How many bytes of the content are still to come.
    rest: usize,
    /// Whether what comes has no type yet: the first message of a client.
    is_startup: bool,
}

impl Frames {
    /// What a server sends.
    pub(super) fn of_server() -> Frames {
        Frames { head: [0; HEAD + 1], have: 0, rest: 0, is_startup: false }
    }

    /// What a client sends.
    pub(super) fn of_client() -> Frames {
        Frames { is_startup: true, have: 1, ..Frames::of_server() }
    }

    /// Follows the next bytes; `seen` gets the type of each message and the first byte of its content, if it has any.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, Option<u8>)) {
        while let Some((&byte, behind)) = bytes.split_first() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.have] = byte;
            self.have += 1;
            bytes = behind;
            let Some(content) = self.content() else { continue };
            let wanted = if content == 0 { HEAD } else { HEAD + 1 };
            if self.have < wanted {
                continue;
            }
            if !self.is_startup {
                seen(self.head[0], (content > 0).then_some(self.head[HEAD]));
            }
            self.is_startup = false;
            (self.have, self.rest) = (0, content.saturating_sub(1));
        }
    }

    /// The length of the content, once it is known.
    fn content(&self) -> Option<usize> {
        let length = self.head.get(1..self.have)?.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        Some(length.saturating_sub(4))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
        [&[kind], length.as_slice(), content].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_message_is_seen_wherever_it_is_cut(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            cuts in prop::collection::vec(1_usize..7, 1..40),
            is_client: bool,
        ) {
            let messages = (b'a'..).zip(&contents);
            let expected: Vec<_> =
                messages.clone().map(|(kind, content)| (kind, content.first().copied())).collect();
            let mut bytes: Vec<u8> = messages.flat_map(|(kind, content)| message(kind, content)).collect();
            let mut frames = Frames::of_server();
            if is_client {
                bytes.splice(..0, message(0, b"\x00\x03\x00\x00user")[1..].to_vec());
                frames = Frames::of_client();
            }
            let (mut seen, mut rest, mut cuts) = (Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (part, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                frames.follow(part, |kind, first| seen.push((kind, first)));
                rest = behind;
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
