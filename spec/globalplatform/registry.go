package globalplatform

import (
	"fmt"
	"slices"
	"strings"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// A Part is the part of the registry that GET STATUS lists and SET STATUS
// changes, P1 (GPCS 11.4.2.1, 11.10.2.1).
type Part byte

// Parts of the registry.
const (
	IssuerDomainPart Part = 0x80
	Applications     Part = 0x40 // applications and supplementary domains
	LoadFiles        Part = 0x20
	LoadFilesModules Part = 0x10
	// DomainAndApps names, in SET STATUS only, a domain with all that belongs to it.
	DomainAndApps Part = 0x60
)

// Life cycle states (GPCS 11.1.1). An application keeps its state below the
// lock bit while it is locked.
const (
	CardReady       byte = 0x01
	CardInitialized byte = 0x07
	CardSecured     byte = 0x0F
	CardLocked      byte = 0x7F
	CardTerminated  byte = 0xFF
	Loaded          byte = 0x01
	Installed       byte = 0x03
	Selectable      byte = 0x07
	Personalized    byte = 0x0F // security domains
	LockBit         byte = 0x80
)

// StateName gives a life cycle state in words, in Chinese if zh.
func StateName(p Part, state byte, zh bool) string {
	n := names{"unknown state", "未知状态"}
	switch p {
	case IssuerDomainPart:
		n = cardStates[state]
	case LoadFiles, LoadFilesModules:
		n = names{"loaded", "已加载"}
	default:
		switch {
		case state&LockBit != 0:
			n = names{"locked", "已锁定"}
		case state == Installed:
			n = names{"installed", "已安装"}
		case state == Selectable:
			n = names{"selectable", "可选择"}
		case state&0x07 == 0x07:
			n = names{"personalized", "已个人化"}
		}
	}
	return n.in(zh)
}

var cardStates = map[byte]names{
	CardReady: {"ready", "就绪"}, CardInitialized: {"initialized", "已初始化"}, CardSecured: {"secured", "已安全"},
	CardLocked: {"card locked", "卡已锁定"}, CardTerminated: {"terminated", "卡已终止"},
}

type names struct{ en, zh string }

func (n names) in(zh bool) string {
	if zh {
		return n.zh
	}
	return n.en
}

// Tags of the registry's entries (GPCS table 11-36).
const (
	tagEntry    tlv.Tag = 0xE3
	tagAID      tlv.Tag = 0x4F
	tagState    tlv.Tag = 0x9F70
	tagPriv     tlv.Tag = 0xC5
	tagImplicit tlv.Tag = 0xCF
	tagLoadFile tlv.Tag = 0xC4
	tagVersion  tlv.Tag = 0xCE
	tagModule   tlv.Tag = 0x84
	tagDomain   tlv.Tag = 0xCC
	tagTagList  tlv.Tag = 0x5C
)

// An Entry is one line of GET STATUS. Fields that the part of the registry does
// not have are empty.
type Entry struct {
	AID        AID
	State      byte
	Privileges Privileges // domains and applications
	Implicit   []byte     // implicit selection parameters, one byte each
	LoadFile   AID        // that an application comes from
	Version    []byte     // of a load file
	Modules    []AID      // of a load file
	Domain     AID        // associated security domain
}

// Append adds the entry as E3 to dst with the data of its part; tags, if not
// nil, keeps only the objects it lists (the AID always stays).
func (e Entry) Append(dst []byte, p Part, tags []tlv.Tag) []byte {
	body := tlv.Append(nil, tagAID, []byte(e.AID))
	add := func(tag tlv.Tag, v []byte) {
		if len(v) > 0 && (tags == nil || slices.Contains(tags, tag)) {
			body = tlv.Append(body, tag, v)
		}
	}
	add(tagState, []byte{e.State})
	if p == IssuerDomainPart || p == Applications {
		add(tagPriv, e.Privileges[:])
		for _, i := range e.Implicit {
			add(tagImplicit, []byte{i})
		}
		add(tagLoadFile, []byte(e.LoadFile))
	} else {
		add(tagVersion, e.Version)
	}
	if p == LoadFilesModules {
		for _, m := range e.Modules {
			add(tagModule, []byte(m))
		}
	}
	add(tagDomain, []byte(e.Domain))
	return tlv.Append(dst, tagEntry, body)
}

// ParseStatus reads the entries of one or several answers put together.
func ParseStatus(data []byte) ([]Entry, error) {
	var list []Entry
	for len(data) > 0 {
		tag, val, rest, err := tlv.Next(data)
		if err != nil || tag != tagEntry {
			return nil, fmt.Errorf("%w: GET STATUS, tag %v", ErrAnswer, tag)
		}
		e, err := parseEntry(val)
		if err != nil {
			return nil, err
		}
		list, data = append(list, e), rest
	}
	return list, nil
}

func parseEntry(in []byte) (e Entry, err error) {
	for len(in) > 0 {
		var tag tlv.Tag
		var v []byte
		if tag, v, in, err = tlv.Next(in); err != nil {
			return e, fmt.Errorf("%w: GET STATUS: %w", ErrAnswer, err)
		}
		switch tag {
		case tagAID:
			e.AID = AID(v)
		case tagState:
			if len(v) == 0 {
				return e, fmt.Errorf("%w: GET STATUS, empty state", ErrAnswer)
			}
			e.State = v[0]
		case tagPriv:
			if len(v) != 1 && len(v) != 3 {
				return e, fmt.Errorf("%w: GET STATUS, %d bytes of privileges", ErrAnswer, len(v))
			}
			copy(e.Privileges[:], v)
		case tagImplicit:
			e.Implicit = append(e.Implicit, v...)
		case tagLoadFile:
			e.LoadFile = AID(v)
		case tagVersion:
			e.Version = v
		case tagModule:
			e.Modules = append(e.Modules, AID(v))
		case tagDomain:
			e.Domain = AID(v)
		}
	}
	return e, nil
}

// A GetStatus is the GET STATUS command in its TLV form (GPCS 11.4).
type GetStatus struct {
	Part   Part
	Next   bool // go on after 6310
	Prefix AID  // leading bytes of the AIDs wanted; empty: all
	Tags   []tlv.Tag
}

// Command codes the command in plain.
func (g GetStatus) Command() iso7816.Command {
	data := tlv.Append(nil, tagAID, []byte(g.Prefix))
	if g.Tags != nil {
		var list []byte
		for _, t := range g.Tags {
			list = appendTag(list, t)
		}
		data = tlv.Append(data, tagTagList, list)
	}
	p2 := byte(0x02)
	if g.Next {
		p2 |= 0x01
	}
	return plain(InsGetStatus, byte(g.Part), p2, data)
}

func appendTag(dst []byte, t tlv.Tag) []byte {
	b := tlv.Append(nil, t, nil)
	return append(dst, b[:len(b)-1]...)
}

// ParseGetStatus reads the command in plain. Other search criteria than the AID
// and the tag list are refused.
func ParseGetStatus(c iso7816.Command) (GetStatus, error) {
	if err := expect(c, InsGetStatus); err != nil {
		return GetStatus{}, err
	}
	g := GetStatus{Part: Part(c.P1), Next: c.P2&0x01 != 0}
	switch g.Part {
	case IssuerDomainPart, Applications, LoadFiles, LoadFilesModules:
	default:
		return g, fmt.Errorf("%w: GET STATUS of %02X", ErrCommand, c.P1)
	}
	if c.P2&^0x01 != 0x02 {
		return g, fmt.Errorf("%w: GET STATUS in form %02X", ErrCommand, c.P2)
	}
	tag, v, rest, err := tlv.Next(c.Data)
	if err != nil || tag != tagAID || len(v) > maxAID {
		return g, fmt.Errorf("%w: GET STATUS criteria", ErrCommand)
	}
	g.Prefix = AID(v)
	if len(rest) == 0 {
		return g, nil
	}
	tag, v, rest, err = tlv.Next(rest)
	if err != nil || tag != tagTagList || len(rest) != 0 {
		return g, fmt.Errorf("%w: GET STATUS criteria", ErrCommand)
	}
	g.Tags, err = parseTagList(v)
	return g, err
}

func parseTagList(in []byte) ([]tlv.Tag, error) {
	list := []tlv.Tag{}
	for len(in) > 0 {
		n := 1
		if in[0]&0x1F == 0x1F {
			for n++; n < len(in) && in[n-1]&0x80 != 0; n++ {
			}
		}
		// Next reads a tag only with a length after it; a tag list has none.
		tag, _, _, err := tlv.Next(append(slices.Clone(in[:min(n, len(in))]), 0))
		if err != nil {
			return nil, fmt.Errorf("%w: tag list: %w", ErrCommand, err)
		}
		list, in = append(list, tag), in[n:]
	}
	return list, nil
}

// A SetStatus is the SET STATUS command (GPCS 11.10).
type SetStatus struct {
	Part  Part
	State byte
	App   AID
}

// Command codes the command in plain.
func (s SetStatus) Command() iso7816.Command {
	return plain(InsSetStatus, byte(s.Part), s.State, []byte(s.App))
}

// Lock makes an application unusable until Unlock.
func Lock(app AID) SetStatus { return SetStatus{Applications, LockBit, app} }

// Unlock gives an application the state back that it had.
func Unlock(app AID) SetStatus { return SetStatus{Applications, 0, app} }

// ParseSetStatus reads the command in plain. The card itself may go unnamed.
func ParseSetStatus(c iso7816.Command) (SetStatus, error) {
	if err := expect(c, InsSetStatus); err != nil {
		return SetStatus{}, err
	}
	s := SetStatus{Part(c.P1), c.P2, AID(c.Data)}
	switch s.Part {
	case IssuerDomainPart:
		if len(s.App) <= maxAID {
			return s, nil
		}
	case Applications, DomainAndApps:
		if s.App.valid() {
			return s, nil
		}
	}
	return s, fmt.Errorf("%w: SET STATUS of %02X, AID of %d bytes", ErrCommand, c.P1, len(c.Data))
}

// stateWords describes a SET STATUS of an application in words.
func (s SetStatus) words(zh bool) string {
	switch {
	case s.Part == IssuerDomainPart:
		return StateName(IssuerDomainPart, s.State, zh)
	case s.State&LockBit != 0:
		return names{"lock", "锁定"}.in(zh)
	case s.State == 0:
		return names{"unlock", "解锁"}.in(zh)
	}
	return StateName(Applications, s.State, zh)
}

func joinAIDs(list []AID) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, " ")
}

// Privileges are the three privilege bytes of an application (GPCS 11.1.2).
type Privileges [3]byte

// A Privilege is one bit of Privileges: byte index shifted by 8, and the mask.
type Privilege uint16

// Privileges by name. The two DAP kinds and delegated management include the
// security domain bit.
const (
	PrivSecurityDomain      Privilege = 0x080
	PrivDAP                 Privilege = 0x0C0
	PrivDelegated           Privilege = 0x0A0
	PrivCardLock            Privilege = 0x010
	PrivCardTerminate       Privilege = 0x008
	PrivDefaultSelected     Privilege = 0x004
	PrivPIN                 Privilege = 0x002
	PrivMandatedDAP         Privilege = 0x0C1
	PrivTrustedPath         Privilege = 0x180
	PrivAuthorizedMgmt      Privilege = 0x140
	PrivTokenVerification   Privilege = 0x120
	PrivGlobalDelete        Privilege = 0x110
	PrivGlobalLock          Privilege = 0x108
	PrivGlobalRegistry      Privilege = 0x104
	PrivFinalApplication    Privilege = 0x102
	PrivGlobalService       Privilege = 0x101
	PrivReceiptGeneration   Privilege = 0x280
	PrivCipheredLoad        Privilege = 0x240
	PrivContactlessActivate Privilege = 0x220
	PrivContactlessSelf     Privilege = 0x210
)

// Has says whether all bits of the privilege are there.
func (p Privileges) Has(x Privilege) bool {
	mask := byte(x)
	return int(x>>8) < len(p) && p[x>>8]&mask == mask
}

// With adds a privilege.
func (p Privileges) With(x Privilege) Privileges {
	p[x>>8] |= byte(x)
	return p
}

// Without takes the bits of a privilege away.
func (p Privileges) Without(x Privilege) Privileges {
	p[x>>8] &^= byte(x)
	return p
}

// Bytes codes one byte where that says all, else three.
func (p Privileges) Bytes() []byte {
	if p[1] == 0 && p[2] == 0 {
		return []byte{p[0]}
	}
	return p[:]
}

var privilegeNames = []struct {
	bit    Privilege
	en, zh string
}{
	{PrivSecurityDomain, "security domain", "安全域"}, {0x040, "DAP verification", "DAP 验证"},
	{0x020, "delegated management", "委托管理"}, {PrivCardLock, "card lock", "锁卡"},
	{PrivCardTerminate, "card terminate", "终止卡片"}, {PrivDefaultSelected, "default selected", "默认选择"},
	{PrivPIN, "PIN management", "密码管理"}, {0x001, "mandated DAP", "强制 DAP"},
	{PrivTrustedPath, "trusted path", "可信路径"}, {PrivAuthorizedMgmt, "authorized management", "授权管理"},
	{PrivTokenVerification, "token verification", "令牌验证"}, {PrivGlobalDelete, "global delete", "全局删除"},
	{PrivGlobalLock, "global lock", "全局锁定"}, {PrivGlobalRegistry, "global registry", "全局注册表"},
	{PrivFinalApplication, "final application", "最终应用"}, {PrivGlobalService, "global service", "全局服务"},
	{PrivReceiptGeneration, "receipt generation", "收据生成"}, {PrivCipheredLoad, "ciphered load file", "加密加载"},
	{PrivContactlessActivate, "contactless activation", "非接触激活"}, {PrivContactlessSelf, "contactless self-activation", "非接触自激活"},
}

// Names lists the privileges in words, in Chinese if zh.
func (p Privileges) Names(zh bool) []string {
	var out []string
	for _, n := range privilegeNames {
		switch {
		case !p.Has(n.bit):
		case zh:
			out = append(out, n.zh)
		default:
			out = append(out, n.en)
		}
	}
	return out
}
