//! The bounds of one store. [`Limits::default`] is what `wharf_core::limits` says; tests take
//! smaller ones.

use wharf_core::limits as bounds;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of an archive given to `load`, after its outer compression is undone.
    pub archive_bytes_max: u64,
    pub archive_entries_max: u64,
    pub document_bytes_max: u64,
    pub layer_bytes_max: u64,
    pub layer_entries_max: u64,
    pub layer_depth_max: usize,
    pub compression_ratio_max: u64,
    pub compression_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes_max: bounds::IMAGE_ARCHIVE_BYTES_MAX,
            archive_entries_max: bounds::IMAGE_ARCHIVE_ENTRIES_MAX,
            document_bytes_max: bounds::IMAGE_DOCUMENT_BYTES_MAX,
            layer_bytes_max: bounds::LAYER_BYTES_MAX,
            layer_entries_max: bounds::LAYER_ENTRIES_MAX,
            layer_depth_max: bounds::LAYER_DEPTH_MAX,
            compression_ratio_max: bounds::COMPRESSION_RATIO_MAX,
            compression_free_bytes: bounds::COMPRESSION_FREE_BYTES,
        }
    }
}
