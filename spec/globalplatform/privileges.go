package globalplatform

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
