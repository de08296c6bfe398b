package desfire

import "fmt"

// A Version is what GET VERSION answers in three frames: hardware 7, software
// 7, and UID 7, batch 5, week and year of production in BCD.
type Version struct {
	Hardware, Software [7]byte
	UID                UID
	Batch              [5]byte
	Week, Year         byte
}

// VersionLen is the length of all three frames together, bytes.
const VersionLen = 28

// EV1 is the version of an EV1 card with 8 KB, as identification tools know it.
func EV1(uid UID) Version {
	return Version{
		Hardware: [7]byte{0x04, 0x01, 0x01, 0x01, 0x00, 0x1A, 0x05}, Software: [7]byte{0x04, 0x01, 0x01, 0x01, 0x04, 0x1A, 0x05},
		UID: uid, Batch: [5]byte{0x4B, 0x4F, 0x41, 0x4C, 0x41}, Week: 0x01, Year: 0x17,
	}
}

// Frames are the three answers.
func (v Version) Frames() [3][]byte {
	last := append(append([]byte(nil), v.UID[:]...), v.Batch[:]...)
	return [3][]byte{v.Hardware[:], v.Software[:], append(last, v.Week, v.Year)}
}

// ParseVersion reads the three answers put together.
func ParseVersion(b []byte) (v Version, err error) {
	if err := exactly("version", b, VersionLen); err != nil {
		return v, err
	}
	return Version{
		Hardware: [7]byte(b[:7]), Software: [7]byte(b[7:14]), UID: UID(b[14:21]), Batch: [5]byte(b[21:26]), Week: b[26], Year: b[27],
	}, nil
}

// Storage is the card's memory in bytes, as the version states it.
func (v Version) Storage() int { return 1 << (v.Hardware[5] >> 1) }

// String gives the version in words.
func (v Version) String() string {
	return fmt.Sprintf("hardware %d.%d, software %d.%d, %d bytes, UID %s, batch %X, week %02X of %02X",
		v.Hardware[3], v.Hardware[4], v.Software[3], v.Software[4], v.Storage(), v.UID, v.Batch[:], v.Week, v.Year)
}
