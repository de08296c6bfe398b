package keys

import (
	"strings"

	"koala/hsm"
	"koala/web"
)

// words is the catalog of these pages.
var words = struct {
	DidFill, DidRotate, Fill, FillBody, KCV, Label, Lead, Made, Newest, NoKeys, OfTerminals, OfTheHouse,
	Older, Pool, PoolLow, PoolNote, Purpose, Rotate, RotateBody, SetBank, SetChannel, State, Title, Use, Version, WithHosts, ZoneMAC, ZonePIN web.Text
}{
	DidFill:     web.Text{ZH: "密钥池已补充。", EN: "The pool is filled."},
	DidRotate:   web.Text{ZH: "新版本已生成。", EN: "The next version is made."},
	Fill:        web.Text{ZH: "补充密钥池", EN: "Fill the pool"},
	FillBody:    web.Text{ZH: "生成卡片密钥，直到备好 %[1]d 把。要几秒钟。", EN: "Makes card keys until %[1]d are ready. It takes some seconds."},
	KCV:         web.Text{ZH: "校验值", EN: "Check value"},
	Label:       web.Text{ZH: "标签", EN: "Label"},
	Lead:        web.Text{ZH: "密钥只以校验值示人，任何功能都不会给出密钥本身。", EN: "Keys are known by their check values. Nothing in the house gives a key away."},
	Made:        web.Text{ZH: "生成时间", EN: "Made"},
	Newest:      web.Text{ZH: "最新", EN: "newest"},
	NoKeys:      web.Text{ZH: "密钥库是空的。", EN: "The key store is empty."},
	OfTerminals: web.Text{ZH: "终端", EN: "Terminals’"},
	OfTheHouse:  web.Text{ZH: "本平台", EN: "The house’s"},
	Older:       web.Text{ZH: "旧版，仍可验证", EN: "older, still verifies"},
	Pool:        web.Text{ZH: "备好的卡片密钥", EN: "Card keys ready"},
	PoolLow:     web.Text{ZH: "只剩 %[1]d 把备好的卡片密钥。发卡时会现场生成，会慢；请补充。", EN: "Only %[1]d card keys are ready. Without them each bank card waits for its key to be made: fill the pool."},
	PoolNote:    web.Text{ZH: "RSA 1024 位，发银行卡时取用", EN: "RSA 1024 bit, taken when a bank card is issued"},
	Purpose:     web.Text{ZH: "用途", EN: "For"},
	Rotate:      web.Text{ZH: "轮换密钥", EN: "Rotate keys"},
	RotateBody:  web.Text{ZH: "生成下一个版本。新卡用新版本；已发的卡和手环仍用旧版本验证。不能撤销。", EN: "Makes the next version. New cards get it; cards and bands made under the old one go on verifying. It cannot be undone."},
	SetBank:     web.Text{ZH: "银行卡根密钥（三把一起）", EN: "bank card roots (the three together)"},
	SetChannel:  web.Text{ZH: "安全通道根密钥（三把一起）", EN: "secure channel roots (the three together)"},
	State:       web.Text{ZH: "状态", EN: "State"},
	Title:       web.Text{ZH: "密钥", EN: "Keys"},
	Use:         web.Text{ZH: "类型", EN: "Use"},
	Version:     web.Text{ZH: "版本", EN: "Version"},
	WithHosts:   web.Text{ZH: "与发卡方共享", EN: "Shared with issuers’ hosts"},
	ZoneMAC:     web.Text{ZH: "与 %[1]s 之间的报文认证", EN: "MACs of messages with %[1]s"},
	ZonePIN:     web.Text{ZH: "与 %[1]s 之间的密码块", EN: "PIN blocks to %[1]s"},
}

// purposes says what keys are for, by label.
var purposes = map[string]web.Text{
	hsm.LabelDPK: {ZH: "消费主密钥，按卡号分散", EN: "purchase, dispersed by card number"}, hsm.LabelDLK: {ZH: "圈存主密钥，按卡号分散", EN: "load, dispersed by card number"},
	hsm.LabelDTK: {ZH: "TAC 主密钥，按卡号分散", EN: "TAC, dispersed by card number"}, hsm.LabelDAMK: {ZH: "应用维护主密钥：锁定与解锁", EN: "application maintenance: block and unblock"},
	hsm.LabelENC: {ZH: "安全通道加密", EN: "secure channel, encryption"}, hsm.LabelMAC: {ZH: "安全通道认证", EN: "secure channel, authentication"},
	hsm.LabelDEK: {ZH: "安全通道数据加密", EN: "secure channel, keys inside data"}, hsm.LabelPack: {ZH: "签名：票价包、黑名单、封账", EN: "signs tariff packs, deny lists and seals"},
	"device.sign": {ZH: "签名：手环与终端的令牌", EN: "signs the tokens of bands and terminals"}, "bill.sign": {ZH: "签名：商户账单", EN: "signs bills of shops"}, "slip.sign": {ZH: "签名：签购单", EN: "signs slips of sales"}, "terminal.sign": {ZH: "签名：商户终端的参数包", EN: "signs parameter packs of shop terminals"}, "firmware.sign": {ZH: "签名：手环固件", EN: "signs firmware of bands"},
	"data.seal": {ZH: "静态数据密封", EN: "seals data at rest"}, hsm.LabelCardAC: {ZH: "应用密文根密钥", EN: "application cryptograms"}, hsm.LabelCardMAC: {ZH: "脚本与余额 MAC 根密钥", EN: "issuer scripts and balances"},
	hsm.LabelCardENC: {ZH: "脚本数据加密根密钥", EN: "PINs in scripts"}, hsm.LabelCAPP: {ZH: "行业记录", EN: "industry records"}, hsm.LabelOpen: {ZH: "行业文件开通", EN: "opening of industry files"},
	hsm.LabelCA: {ZH: "认证中心：签发发卡行证书", EN: "certification authority: certifies issuers"}, hsm.LabelIssuer: {ZH: "发卡行：签发卡片证书", EN: "issuer: certifies cards"},
	hsm.LabelReader: {ZH: "读卡器基础密钥（DUKPT）", EN: "base of mobile readers (DUKPT)"}, hsm.LabelZone: {ZH: "密码块区域密钥", EN: "PIN blocks of our own devices"}, hsm.LabelPIN: {ZH: "密码参考值", EN: "references of PINs"}, hsm.LabelToken: {ZH: "卡号查找令牌", EN: "lookup tokens of card numbers"},
	hsm.LabelCanteen: {ZH: "饭卡", EN: "canteen cards"}, hsm.LabelDoor: {ZH: "门禁卡", EN: "door cards"}, hsm.LabelDoorHost: {ZH: "门禁凭证", EN: "door credentials"},
	hsm.LabelPICC: {ZH: "DESFire 主控密钥", EN: "master of the DESFire card"}, hsm.LabelTill: {ZH: "食堂消费验证码", EN: "sales of canteen tills"}, hsm.LabelCoupon: {ZH: "优惠卡", EN: "discount cards"},
}

// zonePurpose is what a key shared with an issuer's host is for.
func zonePurpose(label string) web.Text {
	host, what, _ := strings.Cut(strings.TrimPrefix(label, zone), ".")
	if what == "PIN" {
		return words.ZonePIN.F(host)
	}
	return words.ZoneMAC.F(host)
}

// purposeOf finds it under the label, or under what the label begins with: the
// key's number or algorithm stands behind the last dot.
func purposeOf(k hsm.KeyInfo) web.Text {
	if shared(k.Label) {
		return zonePurpose(k.Label)
	}
	if t, ok := purposes[k.Label]; ok {
		return t
	}
	if i := strings.LastIndexByte(k.Label, '.'); i > 0 {
		if t, ok := purposes[k.Label[:i]]; ok {
			return web.Text{ZH: t.ZH + "（" + k.Label[i+1:] + "）", EN: t.EN + " (" + k.Label[i+1:] + ")"}
		}
	}
	return web.Same("–")
}
