//! Each key once: a line with its name, shape and default gives its value, how it is read, and its row in the table
//! that the reference and the JSON schema are written from.

/// Keys that stand together: a [`Section`](super::read::Section) with a [`Setting`](super::read::Setting) for each.
///
/// `struct Name => Spec` also writes a public `Spec` of the values alone. A comment above a key is its line in the
/// reference.
macro_rules! keys {
    ($(#[doc = $about:literal])+ struct $section:ident {
        $($(#[doc = $doc:literal])+ $name:ident: $shape:ty $(= $default:literal)?),+ $(,)?
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(crate) struct $section {
            $($(#[doc = $doc])+ pub $name: $crate::config::read::Setting<
                <$shape as $crate::config::read::Field>::Value
            >),+
        }

        impl $crate::config::read::Section for $section {
            fn keys() -> &'static [$crate::config::schema::Key] {
                static KEYS: &[$crate::config::schema::Key] = &[$($crate::config::schema::Key {
                    name: $crate::config::keys::word(stringify!($name)),
                    kind: <<$shape
                        as $crate::config::read::Field>::Shape as $crate::config::read::Shape>::KIND,
                    presence: $crate::config::keys::keys!(@presence $shape $(, $default)?),
                    doc: concat!($($doc),+).trim_ascii(),
                }),+];
                KEYS
            }

            fn read(mut entries: $crate::config::read::Entries<'_, '_>) -> Self {
                Self {
                    $($name: entries.setting::<$shape>(
                        $crate::config::keys::word(stringify!($name)),
                        concat!($($default)?),
                    )),+
                }
            }

            fn merge(&mut self, over: Self) {
                $(self.$name.lay(
                    over.$name,
                    <$shape as $crate::config::read::Field>::merge,
                );)+
            }
        }
    };
    ($(#[doc = $about:literal])+ struct $section:ident => $(#[$attribute:meta])* $spec:ident { $($keys:tt)+ }) => {
        $crate::config::keys::keys!($(#[doc = $about])+ struct $section { $($keys)+ });
        $crate::config::keys::keys!(@spec $section, $(#[doc = $about])+ $(#[$attribute])* $spec { $($keys)+ });
    };
    (@spec $section:ident, $(#[$attribute:meta])+ $spec:ident {
        $($(#[doc = $doc:literal])+ $name:ident: $shape:ty $(= $default:literal)?),+ $(,)?
    }) => {
        $(#[$attribute])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $spec {
            $($(#[doc = $doc])+ pub $name:
                <$shape as $crate::config::read::Field>::Value),+
        }

        impl From<$section> for $spec {
            fn from(keys: $section) -> Self {
                Self {
                    $($name: keys.$name.value),+
                }
            }
        }
    };
    (@presence $shape:ty) => { <$shape as $crate::config::read::Field>::PRESENCE };
    (@presence $shape:ty, $default:literal) => { $crate::config::schema::Presence::Default($default) };
}

/// The words of the files for the values of a type, in both directions.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word used in files, status and logs.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::read::Words for $type {
            const WORDS: &'static [&'static str] = &[$($word),+];
            const VALUES: &'static [Self] = &[$($type::$variant),+];
        }
    };
}

pub(crate) use {keys, words};

/// The word of a name that Rust wants to be told apart, as in `r#continue`.
pub const fn word(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}
