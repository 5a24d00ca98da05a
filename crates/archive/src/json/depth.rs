//! The containers of a text that are open beyond the depth which any database takes.

/// Open containers that no database takes for their depth: one bit for each, true for an array, so
/// that they need less memory than their brackets.
#[derive(Debug, Default)]
pub(super) struct DeepContainers {
    bits: Vec<u64>,
    count: usize,
}

impl DeepContainers {
    pub(super) fn push(&mut self, is_array: bool) {
        let (word, bit) = (self.count / 64, self.count % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(is_array) << bit;
        self.count += 1;
    }

    /// Whether the innermost one is an array; None if there is none.
    pub(super) fn last(&self) -> Option<bool> {
        let last = self.count.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }

    pub(super) fn pop(&mut self) -> Option<bool> {
        let last = self.last()?;
        self.count -= 1;
        Some(last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn containers_are_a_stack(steps in proptest::collection::vec(any::<Option<bool>>(), 0..400)) {
            let (mut deep, mut model) = (DeepContainers::default(), Vec::new());
            for step in steps {
                match step {
                    Some(is_array) => {
                        deep.push(is_array);
                        model.push(is_array);
                    }
                    None => prop_assert_eq!(deep.pop(), model.pop()),
                }
                prop_assert_eq!(deep.last(), model.last().copied());
                prop_assert_eq!(deep.is_empty(), model.is_empty());
            }
        }
    }
}
