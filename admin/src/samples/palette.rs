//! Two colours and what lies between them.

/// From the colour of the ink to that of the paper, red, green and blue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub(super) ink: [u8; 3],
    pub(super) paper: [u8; 3],
}

impl Palette {
    /// 256 colours as hexadecimal digits, the form of a PDF lookup table.
    pub(super) fn hex(self) -> String {
        let colours = (0..=255_u16).flat_map(|step| [0, 1, 2].map(|channel| mix(self.ink[channel], self.paper[channel], step)));
        colours.fold(String::new(), |hex, value| hex + &format!("{value:02x}"))
    }
}

fn mix(ink: u8, paper: u8, step: u16) -> u8 {
    ((u16::from(ink) * (255 - step) + u16::from(paper) * step) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_palette_goes_from_ink_to_paper() {
        let hex = Palette { ink: [1, 2, 3], paper: [255, 254, 253] }.hex();
        assert_eq!(hex.len(), 256 * 6);
        assert!(hex.starts_with("010203") && hex.ends_with("fffefd"));
    }
}
