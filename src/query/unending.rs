//! What a stream cannot be asked: it has no end. The methods here exist so that the compiler can
//! say what to write instead; none of them can be called.

use super::stream::{Keyed, Stream};

/// What ends, and so has an answer. Streams do not.
#[diagnostic::on_unimplemented(
    message = "a stream has no end, so there is nothing to answer yet",
    label = "records keep coming",
    note = "say of which records: `.key_by(..)`, then `.window(tumbling(minutes(5)))` for windows, \
            or `.forever()` for all there ever are"
)]
pub trait Ending: Sized {}

/// What has keys.
#[diagnostic::on_unimplemented(
    message = "windows are per key, and these records have none yet",
    label = "no key",
    note = "write `.key_by(|record| record.user.clone())` first, or `.key_by(|_| ())` for one \
            window over all records"
)]
pub trait WithKeys: Sized {}

/// Cannot be made.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

macro_rules! unending {
    ($stage:ident<'s, $($of:ident),*>) => {
        #[doc(hidden)]
        impl<'s, $($of: 'static),*> $stage<'s, $($of),*> {
            pub fn count(self) -> Never where Self: Ending {
                unreachable!("a stream has no end")
            }
            pub fn sum<F>(self, _number: F) -> Never where Self: Ending {
                unreachable!("a stream has no end")
            }
            pub fn avg<F>(self, _number: F) -> Never where Self: Ending {
                unreachable!("a stream has no end")
            }
            pub fn min<F>(self, _value: F) -> Never where Self: Ending {
                unreachable!("a stream has no end")
            }
            pub fn max<F>(self, _value: F) -> Never where Self: Ending {
                unreachable!("a stream has no end")
            }
            pub fn aggregate<A>(self, _aggregate: A) -> Never where Self: Ending {
                unreachable!("a stream has no end")
            }
        }
    };
}

unending!(Stream<'s, T>);
unending!(Keyed<'s, K, T>);

#[doc(hidden)]
impl<'s, T: 'static> Stream<'s, T> {
    pub fn window<W>(self, _windows: W) -> Never
    where
        Self: WithKeys,
    {
        unreachable!("there are no keys")
    }

    pub fn forever(self) -> Never
    where
        Self: WithKeys,
    {
        unreachable!("there are no keys")
    }
}
