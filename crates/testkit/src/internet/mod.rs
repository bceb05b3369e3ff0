//! An internet for one test: two network namespaces joined by a cable.
//!
//! ```text
//!  the test's thread, and all that it starts            the internet
//!  10.99.0.2, fd99::2, default route ════ cable ════ 10.99.0.1, fd99::1
//!                                                    93.184.216.34 …  on its lo: whatever is listened on
//! ```
//!
//! Addresses are public ones, so that the product's rules for addresses hold as they do outside.
//! Nothing leaves: the namespaces know no way out, and go with the test's thread.

mod names;
mod namespaces;
mod origin;
mod websocket;

pub use names::Names;
pub use namespaces::{Internet, OWN, alone};
pub use origin::{Authority, Origin, Sink};
