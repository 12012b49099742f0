//! A failing run for people: one screen of text, and a timeline as a single HTML file.

mod html;
mod text;

pub use html::timeline;
pub use text::one_screen;
