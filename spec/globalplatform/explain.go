package globalplatform

import (
	"fmt"
	"strings"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// mask stands for what must not be shown.
const mask = "••••"

// Explain says in words what a card management command and its answer mean. A
// command still under the secure channel is named without its content; keys and
// personalisation data are always masked. False: not one of these commands.
func Explain(c iso7816.Command, r iso7816.Response) (iso7816.Explanation, bool) {
	if iso7816.Base(c.CLA) != CLA {
		return iso7816.Explanation{}, false
	}
	var e iso7816.Explanation
	switch c.INS {
	case InsInitializeUpdate:
		if len(c.Data) != 8 {
			return e, false // INITIALIZE FOR LOAD or PURCHASE of a purse, which share the instruction
		}
		e = explainInit(c, r)
	case InsExternalAuth:
		e = iso7816.Explanation{EN: "open the secure channel", ZH: "建立安全通道"}.
			Add("level", "安全级别", fmt.Sprintf("%02X %v", c.P1, Level(c.P1)))
	case InsGetData:
		e = explainGetData(c, r)
	case InsGetStatus, InsSetStatus, InsInstall, InsLoad, InsDelete, InsPutKey, InsStoreData:
		if iso7816.Secure(c.CLA) {
			n := contentNames[c.INS]
			return iso7816.Explanation{EN: n.en + " (under the secure channel)", ZH: n.zh + "（安全通道内）"}, true
		}
		e = explainContent(c, r)
	default:
		return e, false
	}
	if e.EN == "" {
		n := contentNames[c.INS]
		e = iso7816.Explanation{EN: n.en + ", malformed", ZH: n.zh + "，格式错误"}
	}
	return e, true
}

var contentNames = map[byte]names{
	InsInitializeUpdate: {"ask for a secure channel", "请求安全通道"},
	InsGetData:          {"read card data", "读取卡片数据"},
	InsGetStatus:        {"list the registry", "列出注册表"},
	InsSetStatus:        {"change a life cycle state", "修改生命周期状态"},
	InsInstall:          {"install", "安装"},
	InsLoad:             {"load code", "加载代码"},
	InsDelete:           {"delete", "删除"},
	InsPutKey:           {"put keys", "写入密钥"},
	InsStoreData:        {"personalise", "个人化"},
}

func explainInit(c iso7816.Command, r iso7816.Response) iso7816.Explanation {
	version, host, err := ParseInitializeUpdate(c)
	if err != nil {
		return iso7816.Explanation{}
	}
	n := contentNames[InsInitializeUpdate]
	e := iso7816.Explanation{EN: n.en, ZH: n.zh}.
		Add("key version asked", "请求的密钥版本", keyVersion(version)).
		Add("host challenge", "主机随机数", fmt.Sprintf("%X", host))
	a, err := ParseInitAnswer(r.Data)
	if err != nil {
		return e
	}
	return e.Add("key data", "密钥分散数据", fmt.Sprintf("%X", a.KDD)).
		Add("protocol", "安全通道协议", fmt.Sprintf("SCP%02d", a.Protocol)).
		Add("key version", "密钥版本", fmt.Sprintf("%02X", a.Version)).
		Add("sequence", "计数器", fmt.Sprint(a.Sequence))
}

func keyVersion(v byte) string {
	if v == 0 {
		return "any"
	}
	return fmt.Sprintf("%02X", v)
}

var dataNames = map[tlv.Tag]names{
	TagIIN: {"issuer number", "发卡方标识号"}, TagCIN: {"card image number", "卡片映像号"},
	TagCardData: {"card recognition data", "卡片识别数据"}, TagCapabilities: {"card capabilities", "卡片能力"},
	TagSequence: {"sequence counter", "计数器"}, TagReceipts: {"receipt counter", "收据计数器"}, TagKDD: {"key derivation data", "密钥分散数据"},
	TagKeyInfo: {"key information", "密钥信息"}, TagCPLC: {"production life cycle", "生产生命周期"},
	tagRegistryInfo: {"contactless registry information", "非接触注册表信息"},
}

// explainGetData leaves objects of other applications to their own packages.
func explainGetData(c iso7816.Command, r iso7816.Response) iso7816.Explanation {
	tag := tlv.Tag(c.P1)<<8 | tlv.Tag(c.P2)
	n, ok := dataNames[tag]
	if !ok {
		n = names{"object " + tag.String(), "数据对象 " + tag.String()}
	}
	e := iso7816.Explanation{EN: "read " + n.en, ZH: "读取" + n.zh}
	switch tag {
	case TagCardData:
		if p, i, err := ParseCardData(r.Data); err == nil {
			e = e.Add("protocol", "安全通道协议", fmt.Sprintf("SCP%02d i=%02X", p, i))
		}
	case TagKeyInfo:
		keys, _ := ParseKeyTemplate(r.Data)
		for _, k := range keys {
			e = e.Add("key", "密钥", fmt.Sprintf("%02X/%d %v, %d bytes", k.Version, k.ID, k.Type, k.Length))
		}
	case tagRegistryInfo:
		if i, err := ParseRegistryInfo(r.Data); err == nil {
			e = e.Add("update counter", "更新计数器", fmt.Sprint(i.Counter))
		}
	case TagCPLC:
		if p, err := ParseCPLC(r.Data); err == nil {
			e = e.Add("serial", "序列号", fmt.Sprintf("%X", p.Serial)).Add("batch", "批次", fmt.Sprintf("%X", p.Batch))
		}
	}
	return e
}

// explainContent explains a command in plain; the zero Explanation says that it
// is malformed.
func explainContent(c iso7816.Command, r iso7816.Response) (e iso7816.Explanation) {
	switch c.INS {
	case InsGetStatus:
		if c.P2&0x02 == 0 {
			return explainContactlessStatus(c, r)
		}
		return explainGetStatus(c, r)
	case InsSetStatus:
		if c.P1 == 0x01 || c.P1 == 0x02 {
			return explainContactlessSet(c, r)
		}
		if s, err := ParseSetStatus(c); err == nil {
			e = iso7816.Explanation{EN: "set state: " + s.words(false), ZH: "设置状态：" + s.words(true)}.
				Add("application", "应用", s.App.String())
		}
	case InsInstall:
		return explainReceipt(explainInstall(c), r)
	case InsLoad:
		if block, n, last, err := ParseLoad(c); err == nil {
			e = iso7816.Explanation{EN: "load code", ZH: "加载代码"}.Add("block", "块号", fmt.Sprint(n)).
				Add("length", "长度", fmt.Sprint(len(block))).Add("last", "最后一块", fmt.Sprint(last))
			e = explainReceipt(e, r)
		}
	case InsDelete:
		return explainReceipt(explainDelete(c), r)
	case InsPutKey:
		return explainPutKey(c)
	case InsStoreData:
		return explainStoreData(c)
	}
	return e
}

var partNames = map[Part]names{
	IssuerDomainPart: {"the issuer security domain", "发卡方安全域"}, Applications: {"applications", "应用"},
	LoadFiles: {"load files", "加载文件"}, LoadFilesModules: {"load files and modules", "加载文件与模块"},
}

func explainGetStatus(c iso7816.Command, r iso7816.Response) iso7816.Explanation {
	g, err := ParseGetStatus(c)
	if err != nil {
		return iso7816.Explanation{}
	}
	n := partNames[g.Part]
	e := iso7816.Explanation{EN: "list " + n.en, ZH: "列出" + n.zh}
	list, _ := ParseStatus(r.Data)
	for _, x := range list {
		v := x.AID.String() + " " + StateName(g.Part, x.State, false)
		if p := x.Privileges.Names(false); len(p) > 0 {
			v += " (" + strings.Join(p, ", ") + ")"
		}
		if len(x.Modules) > 0 {
			v += " [" + joinAIDs(x.Modules) + "]"
		}
		e = e.Add("entry", "条目", v)
	}
	return e
}

var installNames = map[InstallFor]names{
	ForLoad: {"install for load", "安装：加载"}, ForInstall: {"install", "安装：实例化"},
	ForSelectable: {"make selectable", "安装：置为可选择"}, ForInstallSelect: {"install and make selectable", "安装并置为可选择"},
	ForExtradition: {"move to another security domain", "安装：迁移安全域"}, ForPersonalization: {"start personalisation", "安装：开始个人化"},
	ForRegistryUpdate: {"update the registry", "安装：更新注册表"},
}

func explainInstall(c iso7816.Command) iso7816.Explanation {
	if c.P1&MoreInstall != 0 {
		return iso7816.Explanation{EN: "install, more follows", ZH: "安装，未完"}
	}
	in, err := ParseInstall(c)
	if err != nil {
		return iso7816.Explanation{}
	}
	n := installNames[in.For]
	e := iso7816.Explanation{EN: n.en, ZH: n.zh}
	for _, f := range []struct {
		name, zh string
		aid      AID
	}{
		{"load file", "加载文件", in.LoadFile}, {"module", "模块", in.Module},
		{"application", "应用", in.App}, {"security domain", "安全域", in.Domain},
	} {
		if f.aid != "" {
			e = e.Add(f.name, f.zh, f.aid.String())
		}
	}
	if in.Privileges != (Privileges{}) {
		e = e.Add("privileges", "权限", strings.Join(in.Privileges.Names(false), ", "))
	}
	if p, err := in.System(); err == nil {
		e = explainSystem(e, p)
	}
	if len(in.Token) > 0 {
		e = e.Add("token", "令牌", fmt.Sprintf("%d bytes, of the card issuer", len(in.Token)))
	}
	return e
}

// explainSystem adds what the system specific parameters bound and begin with.
func explainSystem(e iso7816.Explanation, p SystemParams) iso7816.Explanation {
	for _, q := range []struct {
		en, zh string
		n      uint32
	}{
		{"code at least", "代码最少空间", p.Code}, {"memory quota", "存储配额", p.NonVolatile}, {"working memory quota", "易失存储配额", p.Volatile},
		{"granted to the domain", "安全域存储总额", p.Granted}, {"working memory granted to the domain", "安全域易失存储总额", p.GrantedVolatile},
	} {
		if q.n != 0 {
			e = e.Add(q.en, q.zh, fmt.Sprintf("%d bytes", q.n))
		}
	}
	if c := p.Contactless; c != nil {
		e = e.Add("starts", "初始非接触状态", AvailabilityName(c.Initial, false))
		if c.Group != 0 {
			e = e.Add("contactless group", "非接触互斥组", fmt.Sprint(c.Group))
		}
	}
	return e
}

// explainReceipt adds what the card confirms.
func explainReceipt(e iso7816.Explanation, r iso7816.Response) iso7816.Explanation {
	c, err := ParseConfirmation(r.Data)
	if err != nil || len(c.Receipt) == 0 || e.EN == "" {
		return e
	}
	return e.Add("receipt", "收据", fmt.Sprintf("%X", c.Receipt)).Add("receipt number", "收据序号", fmt.Sprint(c.Counter)).
		Add("of", "收据来源", fmt.Sprintf("%X", c.Unique))
}

// AvailabilityName gives a contactless activation state in words, in Chinese if
// zh.
func AvailabilityName(state byte, zh bool) string {
	n := names{"unknown contactless state", "未知非接触状态"}
	switch state {
	case Activated:
		n = names{"activated", "已激活"}
	case Deactivated:
		n = names{"deactivated", "未激活"}
	case NonActivatable:
		n = names{"not activatable", "不可激活"}
	}
	return n.in(zh)
}

func explainContactlessStatus(c iso7816.Command, r iso7816.Response) iso7816.Explanation {
	q, err := ParseContactlessQuery(c)
	if err != nil {
		return iso7816.Explanation{}
	}
	e := iso7816.Explanation{EN: "list the contactless registry", ZH: "列出非接触注册表"}
	if q.Prefix != "" {
		e = e.Add("names beginning with", "名称前缀", q.Prefix.String())
	}
	list, _ := ParseContactlessStatus(r.Data)
	for _, x := range list {
		e = e.Add("entry", "条目", fmt.Sprintf("%v %s, %s", x.AID, StateName(Applications, x.State, false), AvailabilityName(x.Availability, false)))
	}
	return e
}

var changeNames = map[ContactlessChange]names{
	Activate: {"activate over the air", "激活非接触"}, Deactivate: {"deactivate over the air", "停用非接触"},
	PutFirst: {"prefer for now", "临时优先"}, ForgetOrder: {"forget the preference", "取消临时优先"}, MakeDefaults: {"make the default", "设为默认"},
}

func explainContactlessSet(c iso7816.Command, r iso7816.Response) iso7816.Explanation {
	s, err := ParseContactlessSet(c)
	n, ok := changeNames[s.Change]
	if err != nil || !ok {
		return iso7816.Explanation{}
	}
	e := iso7816.Explanation{EN: n.en, ZH: n.zh}
	for _, a := range s.Apps {
		e = e.Add("application", "应用", a.String())
	}
	failed, conflicts, _ := ParseFailures(r.Data)
	for _, a := range failed {
		e = e.Add("not moved", "未变更", a.String())
	}
	for _, a := range conflicts {
		e = e.Add("in the way", "冲突应用", a.String())
	}
	return e
}

func explainDelete(c iso7816.Command) iso7816.Explanation {
	d, err := ParseDelete(c)
	switch {
	case err != nil:
		return iso7816.Explanation{}
	case d.App == "":
		return iso7816.Explanation{EN: "delete keys", ZH: "删除密钥"}.
			Add("key version", "密钥版本", keyVersion(d.KeyVersion)).Add("key", "密钥标识", fmt.Sprint(d.KeyID))
	}
	e := iso7816.Explanation{EN: "delete", ZH: "删除"}.Add("application", "应用", d.App.String())
	if d.Related {
		e.EN, e.ZH = "delete with all that comes from it", "删除及其相关实例"
	}
	if len(d.Token) > 0 {
		e = e.Add("token", "令牌", fmt.Sprintf("%d bytes, of the card issuer", len(d.Token)))
	}
	return e
}

func explainPutKey(c iso7816.Command) iso7816.Explanation {
	if len(c.Data) == 0 { // a log that keeps no key material; on the wire it is malformed
		e := iso7816.Explanation{EN: "put keys", ZH: "写入密钥"}
		e.Fields = append(e.Fields, secret("key values", "密钥值"))
		return e
	}
	p, err := ParsePutKey(c)
	if err != nil {
		return iso7816.Explanation{}
	}
	e := iso7816.Explanation{EN: "put keys", ZH: "写入密钥"}.Add("new version", "新版本", fmt.Sprintf("%02X", p.NewVersion))
	if p.Replaces != 0 {
		e = e.Add("replaces", "替换版本", fmt.Sprintf("%02X", p.Replaces))
	}
	for i, k := range p.Keys {
		if k.Type.Public() {
			e = e.Add("public key", "公钥", fmt.Sprintf("%d %v, %d bytes", int(p.First)+i, k.Type, k.Length))
			continue
		}
		e = e.Add("key", "密钥", fmt.Sprintf("%d %v, %d bytes, check value %X", int(p.First)+i, k.Type, k.Length, k.Check))
		e.Fields = append(e.Fields, secret("key value", "密钥值"))
	}
	return e
}

func explainStoreData(c iso7816.Command) iso7816.Explanation {
	s, err := ParseStoreData(c)
	if err != nil {
		return iso7816.Explanation{}
	}
	e := iso7816.Explanation{EN: "personalise", ZH: "个人化"}.Add("block", "块号", fmt.Sprint(s.Block))
	if s.Last {
		e.EN, e.ZH = "personalise, last block", "个人化，最后一块"
	}
	switch s.Form {
	case StoreDGI:
		for rest := s.Data; len(rest) > 0; {
			d, after, ok, err := NextDGI(rest)
			if err != nil || !ok {
				e = e.Add("goes on", "续", fmt.Sprintf("%d bytes", len(rest)))
				break
			}
			e = e.Add("data grouping", "数据分组", fmt.Sprintf("%04X, %d bytes", d.ID, len(d.Data)))
			rest = after
		}
	case StoreTLV:
		for rest := s.Data; len(rest) > 0; {
			tag, v, after, err := tlv.Next(rest)
			if err != nil {
				break
			}
			e = e.Add("object", "数据对象", fmt.Sprintf("%v, %d bytes", tag, len(v)))
			rest = after
		}
	}
	e.Fields = append(e.Fields, secret("content", "内容"))
	return e
}

func secret(name, zh string) iso7816.Field {
	return iso7816.Field{Name: name, NameZH: zh, Value: mask, Secret: true}
}
