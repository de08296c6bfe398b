package desfire

import "hash/crc32"

// CRC32 is the checksum of enciphered data under the EV1 messaging: reflected
// polynomial EDB88320, start FFFFFFFF, no final inversion.
func CRC32(parts ...[]byte) uint32 {
	sum := uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.IEEETable, p)
	}
	return ^sum
}

// CRC16 is the checksum of enciphered data under the legacy messaging: CRC_A of
// ISO 14443-3, reflected polynomial 8408, start 6363.
func CRC16(data []byte) uint16 {
	sum := uint16(0x6363)
	for _, b := range data {
		sum ^= uint16(b)
		for range 8 {
			sum = sum>>1 ^ 0x8408&-(sum&1)
		}
	}
	return sum
}
