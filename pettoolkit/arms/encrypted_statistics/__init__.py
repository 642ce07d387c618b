"""`encrypted_statistics`: regression from encrypted sums; hospitals send X'WX and X'r as ciphertexts, never rows."""
