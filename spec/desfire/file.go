package desfire

import (
	"encoding/binary"
	"fmt"
)

// A FileType is the first byte of file settings.
type FileType byte

// Types of files.
const (
	StdFile    FileType = 0x00
	BackupFile FileType = 0x01
	ValueFile  FileType = 0x02
	LinearFile FileType = 0x03
	CyclicFile FileType = 0x04
)

// Words names the type, in Chinese if zh.
func (t FileType) Words(zh bool) string {
	w, ok := map[FileType][2]string{
		StdFile: {"standard data", "标准数据"}, BackupFile: {"backup data", "备份数据"}, ValueFile: {"value", "值"},
		LinearFile: {"linear records", "线性记录"}, CyclicFile: {"cyclic records", "循环记录"},
	}[t]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(t))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

// Access is what key each use of a file needs: four nibbles, key numbers 0-D,
// E free, F never. A use that several nibbles allow is granted by any of them.
type Access uint16

// Key numbers of an access nibble that are no keys.
const (
	Free  byte = 0x0E
	Never byte = 0x0F
)

// Rights puts an Access together: reading; writing; both; changing the access.
func Rights(read, write, both, change byte) Access {
	return Access(read&0xF)<<12 | Access(write&0xF)<<8 | Access(both&0xF)<<4 | Access(change&0xF)
}

// Read is the key that may read.
func (a Access) Read() byte { return byte(a>>12) & 0xF }

// Write is the key that may write; of a value file, debit and credit within limits.
func (a Access) Write() byte { return byte(a>>8) & 0xF }

// Both is the key that may read and write; of a value file, credit.
func (a Access) Both() byte { return byte(a>>4) & 0xF }

// Change is the key that may change mode and access.
func (a Access) Change() byte { return byte(a) & 0xF }

// String names the four keys.
func (a Access) String() string {
	return fmt.Sprintf("read %X, write %X, both %X, change %X", a.Read(), a.Write(), a.Both(), a.Change())
}

// FileSettings is what GET FILE SETTINGS answers.
type FileSettings struct {
	Type   FileType
	Mode   Mode
	Access Access
	// Size is the bytes of a data file, or of one record.
	Size int
	// Lower and Upper bound a value file; Limited is what a limited credit may
	// still give back; LimitedOn says whether there are such credits. Bit 1 of the
	// same byte (free reading) is kept in FreeValue.
	Lower, Upper, Limited int32
	LimitedOn, FreeValue  bool
	// Max and Now count records. A cyclic file keeps one record for the change
	// under way, so it shows at most Max-1.
	Max, Now int
}

// settingsHead is type 1, mode 1 and access 2.
const settingsHead = 4

// Bytes codes the settings as GET FILE SETTINGS answers them.
func (f FileSettings) Bytes() []byte {
	b := append(make([]byte, 0, 17), byte(f.Type), byte(f.Mode))
	b = binary.LittleEndian.AppendUint16(b, uint16(f.Access))
	switch f.Type {
	case ValueFile:
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Lower))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Upper))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Limited))
		return append(b, f.flags())
	case LinearFile, CyclicFile:
		return put24(put24(put24(b, f.Size), f.Max), f.Now)
	}
	return put24(b, f.Size)
}

func (f FileSettings) flags() (b byte) {
	if f.LimitedOn {
		b |= 0x01
	}
	if f.FreeValue {
		b |= 0x02
	}
	return b
}

func (f *FileSettings) setFlags(b byte) { f.LimitedOn, f.FreeValue = b&0x01 != 0, b&0x02 != 0 }

// ParseFileSettings reads the answer of GET FILE SETTINGS and nothing after it.
func ParseFileSettings(b []byte) (FileSettings, error) {
	f, rest, err := nextSettings(b)
	if err == nil {
		err = exactly("file settings", rest, 0)
	}
	if err != nil {
		return FileSettings{}, err
	}
	return f, nil
}

func nextSettings(b []byte) (f FileSettings, rest []byte, err error) {
	if len(b) < settingsHead {
		return f, nil, fmt.Errorf("file settings: %w: %d bytes", ErrLength, len(b))
	}
	f = FileSettings{Type: FileType(b[0]), Mode: Mode(b[1]), Access: Access(binary.LittleEndian.Uint16(b[2:]))}
	n, ok := map[FileType]int{StdFile: 3, BackupFile: 3, ValueFile: 13, LinearFile: 9, CyclicFile: 9}[f.Type]
	b = b[settingsHead:]
	switch {
	case !ok:
		return f, nil, fmt.Errorf("file type %02X: %w", byte(f.Type), ErrSettings)
	case len(b) < n:
		return f, nil, fmt.Errorf("file settings: %w: %d bytes", ErrLength, settingsHead+len(b))
	}
	switch f.Type {
	case ValueFile:
		if b[12] > 0x03 {
			return f, nil, fmt.Errorf("value file flags %02X: %w", b[12], ErrSettings)
		}
		f.Lower, f.Upper, f.Limited = int32At(b), int32At(b[4:]), int32At(b[8:])
		f.setFlags(b[12])
	case LinearFile, CyclicFile:
		f.Size, f.Max, f.Now = uint24(b), uint24(b[3:]), uint24(b[6:])
	default:
		f.Size = uint24(b)
	}
	return f, b[n:], nil
}

func int32At(b []byte) int32 { return int32(binary.LittleEndian.Uint32(b)) }

// Check says whether a card of this house can have such a file: known mode,
// limits in order, sizes within MaxFileSize, at least two records in a cyclic
// file.
func (f FileSettings) Check() error {
	bad := func(why string) error { return fmt.Errorf("%s: %w", why, ErrSettings) }
	switch {
	case f.Mode > Enciphered:
		return bad("mode")
	case f.Type > CyclicFile:
		return bad("type")
	case f.Type == ValueFile && (f.Lower > f.Upper || f.Limited < 0):
		return bad("limits")
	case f.Type == ValueFile:
		return nil
	case f.Size < 1 || f.Size > MaxFileSize:
		return bad("size")
	case f.Type != LinearFile && f.Type != CyclicFile:
		return nil
	case f.Max < 1 || f.Type == CyclicFile && f.Max < 2 || f.Size > MaxTransaction || f.Max > MaxFileSize/f.Size:
		return bad("records")
	case f.Now < 0 || f.Now > f.Holds():
		return bad("record count")
	}
	return nil
}

// Holds is how many records a record file shows at most.
func (f FileSettings) Holds() int {
	if f.Type == CyclicFile {
		return f.Max - 1
	}
	return f.Max
}

// A NewFile is a file to be created: its number, ISO identifier (0 none),
// settings, and the value a value file begins with.
type NewFile struct {
	No       byte
	ISO      uint16
	Settings FileSettings
	Value    int32
}

// createCommands are the commands that create each type of file.
var createCommands = map[FileType]byte{
	StdFile: CmdCreateStd, BackupFile: CmdCreateBackup, ValueFile: CmdCreateValue, LinearFile: CmdCreateLinear, CyclicFile: CmdCreateCyclic,
}

// Command is the code of the command that creates the file, and its data.
func (f NewFile) Command() (cmd byte, data []byte) {
	s := f.Settings
	data = append(data, f.No)
	if f.ISO != 0 && s.Type != ValueFile {
		data = binary.LittleEndian.AppendUint16(data, f.ISO)
	}
	data = append(data, byte(s.Mode))
	data = binary.LittleEndian.AppendUint16(data, uint16(s.Access))
	switch s.Type {
	case ValueFile:
		data = binary.LittleEndian.AppendUint32(data, uint32(s.Lower))
		data = binary.LittleEndian.AppendUint32(data, uint32(s.Upper))
		data = binary.LittleEndian.AppendUint32(data, uint32(f.Value))
		data = append(data, s.flags())
	case LinearFile, CyclicFile:
		data = put24(put24(data, s.Size), s.Max)
	default:
		data = put24(data, s.Size)
	}
	return createCommands[s.Type], data
}

// ParseNewFile reads the data of a command that creates a file.
func ParseNewFile(cmd byte, data []byte) (f NewFile, err error) {
	for t, c := range createCommands {
		if c == cmd {
			f.Settings.Type = t
		}
	}
	s := &f.Settings
	n := map[FileType]int{StdFile: 7, BackupFile: 7, ValueFile: 17, LinearFile: 10, CyclicFile: 10}[s.Type]
	if createCommands[s.Type] != cmd || len(data) != n && (s.Type == ValueFile || len(data) != n+2) {
		return f, fmt.Errorf("command %02X with %d bytes: %w", cmd, len(data), ErrLength)
	}
	f.No = data[0]
	if b := data[1:]; len(data) == n {
		data = b
	} else {
		f.ISO, data = binary.LittleEndian.Uint16(b), b[2:]
		if f.ISO == 0 {
			return f, fmt.Errorf("ISO identifier 0000: %w", ErrSettings)
		}
	}
	s.Mode, s.Access = Mode(data[0]), Access(binary.LittleEndian.Uint16(data[1:]))
	data = data[3:]
	switch s.Type {
	case ValueFile:
		if data[12] > 0x03 {
			return f, fmt.Errorf("value file flags %02X: %w", data[12], ErrSettings)
		}
		s.Lower, s.Upper, f.Value = int32At(data), int32At(data[4:]), int32At(data[8:])
		s.setFlags(data[12])
	case LinearFile, CyclicFile:
		s.Size, s.Max = uint24(data), uint24(data[3:])
	default:
		s.Size = uint24(data)
	}
	return f, f.check()
}

func (f NewFile) check() error {
	switch s := f.Settings; {
	case int(f.No) >= MaxFiles:
		return fmt.Errorf("file %d: %w", f.No, ErrSettings)
	case s.Type == ValueFile && (f.Value < s.Lower || f.Value > s.Upper):
		return fmt.Errorf("file %d: value outside its limits: %w", f.No, ErrSettings)
	}
	if err := f.Settings.Check(); err != nil {
		return fmt.Errorf("file %d: %w", f.No, err)
	}
	return nil
}
