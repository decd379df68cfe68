//! The language as a whole: the reference's examples, what is refused, and hostile texts.

mod expansion;
mod hostile;
mod instructions;
mod planning;
