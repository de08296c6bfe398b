package rollout

import "koala/web"

// words is the catalog of these pages.
var words = struct {
	DidHalt, DidPublish, DidWiden, Everywhere, Halt, HaltBody, HaltRule, Halted, Kept, Lead, LoadFile, Made, Module, Modules, News, NewsEN,
	NewsZH, NoModules, NoReleases, NobodyYet, NotOffered, Outcome, Publish, PublishBody, Release, ReleaseLead, Replaced, Rolling, Signed, Stage,
	State, Title, ToShare, Undone, Version, WhyHalted, Widen, WidenBody web.Text
}{
	DidHalt:     web.Text{ZH: "已中止推送。", EN: "Halted."},
	DidPublish:  web.Text{ZH: "已发布，还没有推送。", EN: "Published. It is offered to nobody yet."},
	DidWiden:    web.Text{ZH: "推送比例已扩大。", EN: "It is offered to more bands."},
	Everywhere:  web.Text{ZH: "全部推送", EN: "offered to all"},
	Halt:        web.Text{ZH: "中止推送", EN: "Halt"},
	HaltBody:    web.Text{ZH: "不再推送给任何手环，不能恢复；已升级的手环保留。", EN: "It is offered to nobody any more, for ever. Bands that have it keep it."},
	HaltRule:    web.Text{ZH: "至少 3 只手环退回、且超过试用手环的 5% 时，自动中止。", EN: "It halts by itself when at least 3 bands went back and they are more than 5 % of those that tried."},
	Halted:      web.Text{ZH: "已中止", EN: "halted"},
	Kept:        web.Text{ZH: "保留", EN: "Kept"},
	Lead:        web.Text{ZH: "手环里可安装的卡种随固件发布，分阶段推送，可随时中止，手环试用不成会自己退回。", EN: "Releases bring new kinds of cards to bands, in stages. A release can be halted at any time, and a band that fails its trial goes back by itself."},
	LoadFile:    web.Text{ZH: "装载文件", EN: "Load file"},
	Made:        web.Text{ZH: "发布时间", EN: "Published"},
	Module:      web.Text{ZH: "模块", EN: "Module"},
	Modules:     web.Text{ZH: "可安装的模块", EN: "Modules that can be installed"},
	News:        web.Text{ZH: "更新内容", EN: "What is new"},
	NewsEN:      web.Text{ZH: "更新内容（英文）", EN: "What is new, in English"},
	NewsZH:      web.Text{ZH: "更新内容（中文，佩戴者会看到）", EN: "What is new, in Chinese, for wearers"},
	NoModules:   web.Text{ZH: "没有模块。", EN: "No modules."},
	NoReleases:  web.Text{ZH: "还没有发布过固件。", EN: "Nothing has been published yet."},
	NobodyYet:   web.Text{ZH: "还没有手环试过。", EN: "No band has tried it yet."},
	NotOffered:  web.Text{ZH: "未推送", EN: "not offered yet"},
	Outcome:     web.Text{ZH: "手环的结果", EN: "What became of it on bands"},
	Publish:     web.Text{ZH: "发布当前卡种目录", EN: "Publish the catalogue"},
	PublishBody: web.Text{ZH: "签名并保存版本 %[1]d，含 %[2]d 个可安装模块。先不推送给任何手环。", EN: "Signs and keeps version %[1]d with %[2]d modules that can be installed. It is offered to nobody yet."},
	Release:     web.Text{ZH: "固件 v%[1]d", EN: "Release v%[1]d"},
	ReleaseLead: web.Text{ZH: "推送到哪一步，手环怎么说。", EN: "How far it is, and what bands say."},
	Replaced:    web.Text{ZH: "已被取代", EN: "replaced"},
	Rolling:     web.Text{ZH: "推送中", EN: "rolling out"},
	Signed:      web.Text{ZH: "签名包（字节）", EN: "Signed, bytes"},
	Stage:       web.Text{ZH: "推送比例", EN: "Offered to"},
	State:       web.Text{ZH: "状态", EN: "State"},
	Title:       web.Text{ZH: "手环固件", EN: "Band firmware"},
	ToShare:     web.Text{ZH: "推送给 %[1]d%% 的手环", EN: "to %[1]d %% of the bands"},
	Undone:      web.Text{ZH: "退回", EN: "Went back"},
	Version:     web.Text{ZH: "版本", EN: "Version"},
	WhyHalted:   web.Text{ZH: "中止原因：", EN: "Halted:"},
	Widen:       web.Text{ZH: "扩大推送", EN: "Offer to more"},
	WidenBody:   web.Text{ZH: "手环下次联系时收到新固件。比例只增不减；要停请中止。", EN: "Bands are offered it when they next call. The share only grows: to stop, halt the release."},
}
