package web

import "net/http"

// words is the kit's catalog. Field terms follow docs/glossary.md.
var words = struct {
	Product, Skip, Menu, Language, OtherLanguage, Theme, ThemeAuto, ThemeLight, ThemeDark,
	LogIn, LogOut, LoggedInAs, Name, Password, WrongPassword, TooMany, DemoLogins, DemoNote, UseThis, Welcome,
	Close, Cancel, Copy, Copied, Filter, Clear, NextRows, FirstRows, AsCSV, ShowMap, StationList, Stations, ZoomIn, ZoomOut, WholeMap,
	Command, Answer, Meaning, Secret, Metre, Kilometre, Required, Optional,
	StepDone, StepNow, StepTodo, StepFailed, Trend,
	NotFound, NotAllowed, Refused, Busy, Broken, BackHome, FailureCode, NoRows, Receiver, Amount, Simulated, SimulatedHint,
	Live, Paused, SkipMap Text
}{
	Product:       Text{"考拉", "koala"},
	Skip:          Text{"跳到正文", "Skip to content"},
	Menu:          Text{"菜单", "Menu"},
	Language:      Text{"语言", "Language"},
	OtherLanguage: Text{"EN", "中文"},
	Theme:         Text{"外观", "Theme"},
	ThemeAuto:     Text{"跟随系统", "As the device"},
	ThemeLight:    Text{"浅色", "Light"},
	ThemeDark:     Text{"深色", "Dark"},
	LogIn:         Text{"登录", "Log in"},
	LogOut:        Text{"退出", "Log out"},
	LoggedInAs:    Text{"当前用户：%[1]s", "Logged in as %[1]s"},
	Name:          Text{"用户名", "Name"},
	Password:      Text{"密码", "Password"},
	WrongPassword: Text{"用户名或密码不对，请再试一次。", "That name and password do not go together. Try again."},
	TooMany:       Text{"尝试次数过多，请十分钟后再试。", "Too many attempts. Wait ten minutes and try again."},
	DemoLogins:    Text{"演示账号", "Demo logins"},
	DemoNote:      Text{"只在演示环境里印出来，点一下就进去。", "Printed because this is the demo. One tap takes you in."},
	UseThis:       Text{"用这个账号登录", "Use this login"},
	Welcome:       Text{"欢迎回来", "Welcome back"},
	Close:         Text{"关闭", "Close"},
	Cancel:        Text{"取消", "Cancel"},
	Copy:          Text{"复制", "Copy"},
	Copied:        Text{"已复制", "Copied"},
	Filter:        Text{"筛选", "Filter"},
	Clear:         Text{"清除", "Clear"},
	NextRows:      Text{"更早的记录", "Further rows"},
	FirstRows:     Text{"回到开头", "Back to the start"},
	AsCSV:         Text{"下载 CSV", "As CSV"},
	ShowMap:       Text{"线网图", "Network map"},
	StationList:   Text{"车站列表", "List of stations"},
	Stations:      Text{"%[1]d 座车站，%[2]d 条线路", "%[1]d stations, %[2]d lines"},
	ZoomIn:        Text{"放大", "Zoom in"},
	ZoomOut:       Text{"缩小", "Zoom out"},
	WholeMap:      Text{"显示全图", "Whole map"},
	Command:       Text{"命令", "Command"},
	Answer:        Text{"应答", "Answer"},
	Meaning:       Text{"含义", "Meaning"},
	Secret:        Text{"保密", "secret"},
	Metre:         Text{"%[1]d 米", "%[1]d m"},
	Kilometre:     Text{"%[1]s 公里", "%[1]s km"},
	Required:      Text{"必填", "required"},
	Optional:      Text{"选填", "optional"},
	StepDone:      Text{"已完成", "done"},
	StepNow:       Text{"进行中", "in progress"},
	StepTodo:      Text{"待进行", "to come"},
	StepFailed:    Text{"未完成", "failed"},
	Trend:         Text{"走势：从 %[1]s 到 %[2]s", "Trend: from %[1]s to %[2]s"},
	NotFound:      Text{"这里没有页面", "Nothing lives here"},
	NotAllowed:    Text{"您没有权限", "Not with this login"},
	Refused:       Text{"没有办成", "That was not done"},
	Busy:          Text{"现在有点忙", "Busy right now"},
	Broken:        Text{"我们这边出错了", "Something broke on our side"},
	BackHome:      Text{"回到首页", "Back to the start"},
	FailureCode:   Text{"代码", "Code"},
	NoRows:        Text{"没有记录", "Nothing here"},
	Receiver:      Text{"收款方", "To"},
	Amount:        Text{"金额", "Amount"},
	Simulated:     Text{"模拟", "simulated"},
	SimulatedHint: Text{"这一部分由程序模拟，没有真实的设备或机构。", "This part is played by a program; no real device or institution stands behind it."},
	Live:          Text{"实时", "live"},
	Paused:        Text{"重新连接中", "reconnecting"},
	SkipMap:       Text{"用方向键移动，加减号缩放；车站列表在图下方。", "Arrow keys move, plus and minus zoom; the list of stations follows below."},
}

// troubleTitle heads the page of a failure.
func troubleTitle(status int) Text {
	switch status {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return words.NotFound
	case http.StatusForbidden:
		return words.NotAllowed
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return words.Busy
	case http.StatusInternalServerError:
		return words.Broken
	default:
		return words.Refused
	}
}

// FailureText says a failure to people. Programs read its code and English
// text; a code without a Chinese sentence keeps the English one.
func FailureText(code, english string) Text {
	if zh, ok := failuresZH[code]; ok {
		return Text{zh, english}
	}
	return Same(english)
}

// failuresZH is the Chinese of every declared failure, by code.
var failuresZH = map[string]string{
	"internal.error": "我们这边出了错，什么都没有改动。",
	"web.no_page":    "这个地址没有页面。",
	"web.method":     "这个地址不接受这种请求。",
	"web.login":      "请先登录。",
	"web.right":      "这个账号无权访问此页面。",
	"web.password":   "用户名或密码不对。",
	"web.too_many":   "尝试次数过多，请过几分钟再试。",
	"web.form":       "表单内容无法识别。",
	"web.logins":     "无法建立这个账号。",
}
