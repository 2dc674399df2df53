//! Values of options at their limits.

/// Values to try for an option: numbers and durations from zero to beyond any
/// limit, and other texts. Each must give the correct behaviour, or one line and
/// exit code 2.
pub const EXTREME_VALUES: [&str; 26] = [
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "1048576",
    "16777216",
    "16777217",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1.5",
    "",
    "0s",
    "1ns",
    "1s",
    "60days",
    "500000000years",
    "584542046090years",
    "18446744073709551615s",
    "18446744073709551616s",
];
