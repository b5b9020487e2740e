"""Short conversations with what a person would say of them: language, category, reply or none.

Belongs here: the labelled fixture, and turning its lines into transcripts. A line is
`language kind category reply | speaker: text || speaker: text …`; `ana` is the owner.
Lines with an odd place were looked at while the word lists were written; those with an even
place were not, and are scored apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from communicator_pipeline.messages import Transcript, Turn

START = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)  # a Wednesday
OWNER = "ana"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A conversation with its gold labels."""

    transcript: Transcript
    language: str
    category: str
    needs_reply: bool


def transcript(
    *messages: str,
    kind: str = "dm",
    conversation_id: str = "c1",
    start: datetime = START,
    names: tuple[str, ...] = ("Ana", "Ana Novak"),
) -> Transcript:
    """Messages written "speaker: text", five minutes apart; `<@ana>` mentions the owner.

    A speaker whose name ends in "bot" is one. The transcript is as of two hours after the last.
    """
    turns = []
    for place, message in enumerate(messages):
        speaker, _, text = message.partition(": ")
        turns.append(
            Turn(
                message_id=f"{conversation_id}:{place}",
                sent_at=start + timedelta(minutes=5 * place),
                author_id=speaker,
                author_name=speaker.capitalize(),
                from_me=speaker == OWNER,
                text=text,
                is_bot=speaker.endswith("bot"),
                mentions=tuple(
                    who for who in ("ana", "tom", "eva", "li") if f"<@{who}>" in text
                ),
            )
        )
    as_of = turns[-1].sent_at + timedelta(hours=2) if turns else start
    return Transcript(
        conversation_id, "ch", "general", kind, as_of, tuple(turns),
        me=frozenset({OWNER}), my_names=names,
    )  # fmt: skip


def labelled() -> list[Labelled]:
    found = []
    for place, line in enumerate(l for l in LINES.splitlines() if l.strip()):
        head, _, said = line.partition(" | ")
        language, kind, category, reply = head.split()
        messages = [m.strip().replace("\\n", "\n") for m in said.split("||")]
        found.append(
            Labelled(
                transcript(*messages, kind=kind, conversation_id=f"c{place}"),
                language,
                category,
                reply == "reply",
            )
        )
    return found


LINES = """
en dm request reply | tom: Hey Ana, could you send me the signed contract by Friday 14:00?
en dm question reply | eva: do we still support python 3.9 or did we drop it
en channel incident reply | tom: <@ana> checkout is returning 503s for everyone since 10:40, error rate at 35%
en channel question none | tom: anyone know where the brand assets live? || eva: shared drive > design > brand
en dm social none | eva: Happy birthday!!! 🎉 || ana: Thank you so much!
en dm scheduling reply | tom: Are you free Thursday afternoon for a quick call about the roadmap?
en dm scheduling none | tom: Can we move our 1:1 to 3pm? || ana: sure, moved it || tom: perfect, thanks
en dm support reply | mia: I can't log in since this morning, it says my password is wrong but I reset it twice already
en dm sales reply | omar: We're a team of 40 and would like a quote for the annual enterprise plan. What discounts do you offer?
en channel fyi none | tom: FYI the office will be closed on Monday for maintenance. No action needed.
en dm spam none | prize: CONGRATULATIONS! You have won a $1000 gift card. Click here to claim your prize: http://win.example/x
en channel request reply | tom: Ana, can you review my PR when you get a minute? it's the retry fix
en channel request none | tom: Eva, could you rotate the staging keys today? || eva: on it
en channel fyi none | buildbot: Build #4821 passed on main. Deployed to staging at 14:02.
en dm support none | mia: the export button does nothing when I click it || ana: try clearing the cache please || mia: that worked, thanks!
en group social reply | tom: how was your weekend ana?
en dm request reply | eva: hi! quick favor: pls have a look at the slides before tomorrow's review
en channel incident none | tom: prod db is down, failing over now || eva: failover done, service is back || tom: confirmed, resolved
en dm question reply | kai: What's the difference between the starter and the pro tier in terms of storage
en dm fyi none | tom: Just so you know, I merged the release branch and tagged 2.4.0
en dm support reply | mia: My order 55812 still hasn't arrived and nobody answers my emails. This is unacceptable!
en feed sales none | acme: Our spring sale is on: 20% off all licenses until Sunday https://acme.example/sale
en dm social none | tom: haha that was hilarious 😂
en dm scheduling reply | eva: lunch tomorrow at noon? the new ramen place
en channel question reply | tom: does anybody have the link to the incident review template?
de dm request reply | jan: Hallo Ana, kannst du mir bitte die Rechnung vom Februar schicken?
de dm question reply | eva: Weißt du, ob das Büro am Freitag geöffnet ist?
de channel incident reply | jan: @Ana der Zahlungsserver ist ausgefallen, Kunden können nicht bestellen!
de dm scheduling reply | jan: Hättest du am Dienstag um 15 Uhr Zeit für ein kurzes Gespräch?
de dm scheduling none | jan: Sollen wir den Termin auf Montag verschieben? || ana: Ja, passt mir gut || jan: Super, bis dann
de dm support reply | mia: Die App stürzt seit dem Update ständig ab. Was soll ich tun?
de dm sales reply | omar: Guten Tag, wir benötigen 25 Lizenzen. Könnten Sie uns ein Angebot zusenden?
de channel fyi none | jan: Zur Info: Ab nächster Woche gilt die neue Reisekostenrichtlinie.
de dm social none | eva: Alles Gute zum Geburtstag, liebe Ana! 🎂 || ana: Vielen Dank!
de dm spam none | gewinn: Sie haben gewonnen! Jetzt klicken und 500 € Gutschein sichern: http://gewinn.example
de channel request none | jan: Eva, könntest du das Protokoll verteilen? || eva: ist raus
de channel question none | jan: Hat jemand die Zugangsdaten fürs WLAN im Besprechungsraum? || eva: hängen an der Tür
de dm request reply | eva: Schau bitte mal über den Entwurf, ich brauche bis morgen Mittag deine Rückmeldung
de dm support none | mia: Ich komme nicht in mein Konto || ana: Ich habe das Passwort zurückgesetzt || mia: Jetzt geht's, danke dir!
de group social reply | jan: Na Ana, wie geht's dir so?
de dm fyi none | jan: Habe die Unterlagen gerade im Ordner abgelegt.
de dm question reply | kai: wie viel Speicherplatz ist im Basistarif enthalten?
de dm support reply | mia: Mein Paket ist beschädigt angekommen, das ist eine Frechheit! Ich will mein Geld zurück.
de channel incident none | jan: Störung im Mailsystem, wir arbeiten dran || eva: läuft wieder
es dm request reply | luis: Hola Ana, ¿me puedes enviar el informe antes del viernes?
es dm question reply | eva: ¿Sabes dónde está guardada la plantilla de facturas?
es channel incident reply | luis: <@ana> la web está caída desde hace diez minutos, los clientes no pueden pagar
es dm scheduling reply | luis: ¿Te viene bien una reunión el jueves a las 10?
es dm scheduling none | luis: ¿Podemos mover la llamada a las 4? || ana: Sí, sin problema || luis: genial, hasta luego
es dm support reply | mia: No puedo entrar en mi cuenta, me dice que la contraseña es incorrecta
es dm sales reply | omar: Buenos días, quisiera saber cuánto cuesta la licencia para 30 usuarios y si hay descuento
es channel fyi none | luis: Les informo que mañana la oficina abre a las 10. No hace falta responder.
es dm social none | eva: ¡Feliz cumpleaños, Ana! Un abrazo || ana: ¡Muchas gracias!
es dm spam none | premio: ¡Felicidades, has ganado un iPhone! Haz clic aquí para reclamar tu premio http://premio.example
es channel request none | luis: Eva, ¿puedes actualizar el calendario? || eva: hecho
es channel question none | luis: ¿alguien tiene el número del proveedor? || eva: está en la wiki
es dm request reply | eva: porfa revisa la presentación y dime qué te parece
es dm support none | mia: el pedido no llegó || ana: lo hemos reenviado hoy || mia: perfecto, gracias
es group social reply | luis: ¿qué tal las vacaciones, Ana?
es dm fyi none | luis: Ya subí los documentos a la carpeta compartida
es dm question reply | kai: cual es la diferencia entre el plan basico y el premium
es dm support reply | mia: Llevo tres semanas esperando el reembolso. Es una vergüenza, quiero una respuesta ya.
es channel incident none | luis: se cayó el servidor de correo || eva: ya funciona de nuevo
es dm scheduling reply | eva: quedamos mañana para comer?
fr dm request reply | luc: Bonjour Ana, pourrais-tu m'envoyer le devis signé avant vendredi ?
fr dm question reply | eva: Tu sais où est rangée la charte graphique ?
fr channel incident reply | luc: <@ana> le site est en panne depuis 9h, plus aucun paiement ne passe
fr dm scheduling reply | luc: Tu serais disponible mardi à 14h pour faire le point ?
fr dm scheduling none | luc: On peut décaler la réunion à jeudi ? || ana: Oui, pas de souci || luc: parfait, merci
fr dm support reply | mia: Je n'arrive plus à me connecter, j'ai un message d'erreur à chaque fois
fr dm sales reply | omar: Bonjour, nous souhaitons un devis pour 50 licences. Quel est votre tarif annuel ?
fr channel fyi none | luc: Pour info, les nouveaux horaires s'appliquent à partir de lundi.
fr dm social none | eva: Joyeux anniversaire Ana ! 🎉 || ana: Merci beaucoup !
fr dm spam none | gagnant: Félicitations, vous avez gagné 1000 € ! Cliquez ici pour recevoir votre cadeau http://gagne.example
fr channel request none | luc: Eva, tu peux mettre à jour le planning ? || eva: c'est fait
fr channel question none | luc: quelqu'un a le code du portail ? || eva: 4 chiffres, il est sur le tableau
fr dm request reply | eva: Merci de relire le contrat et de me donner ton avis d'ici demain
fr dm support none | mia: Ma commande n'est pas arrivée || ana: Elle a été renvoyée ce matin || mia: super, merci !
fr group social reply | luc: alors Ana, ces vacances c'était bien ?
fr dm fyi none | luc: J'ai déposé les fichiers dans le dossier partagé
fr dm question reply | kai: combien d'utilisateurs sont inclus dans l'abonnement de base
fr dm support reply | mia: C'est inadmissible, mon colis est arrivé cassé et personne ne répond !
fr channel incident none | luc: le serveur de mails est tombé || eva: c'est réparé, tout remarche
fr dm scheduling reply | eva: un café demain matin, ça te dit ?
ru dm request reply | иван: Привет, Ана! Пришли, пожалуйста, договор до пятницы
ru dm question reply | ева: не знаешь, где лежит шаблон отчёта
ru channel incident reply | иван: <@ana> упал прод, платежи не проходят с 10:40
ru dm scheduling reply | иван: Тебе удобно созвониться в четверг в 15:00?
ru dm scheduling none | иван: Давай перенесём встречу на понедельник? || ana: Давай, мне подходит || иван: отлично, до встречи
ru dm support reply | мия: Не могу войти в личный кабинет, пишет что пароль неверный
ru dm sales reply | омар: Добрый день! Сколько стоит лицензия на 30 пользователей и есть ли скидка?
ru channel fyi none | иван: К сведению: с понедельника офис открывается в 10 утра.
ru dm social none | ева: С днём рождения! 🎉 || ana: Спасибо большое!
ru dm spam none | приз: Вы выиграли 100000 рублей! Переходите по ссылке и получите приз: http://priz.example
ru channel request none | иван: Ева, можешь обновить календарь? || ева: готово
ru channel question none | иван: у кого есть пароль от вайфая? || ева: на доске написан
ru dm request reply | ева: глянь презентацию, мне нужно твоё мнение до завтра
ru dm support none | мия: Заказ не пришёл || ana: Мы отправили его повторно || мия: спасибо, получила
ru group social reply | иван: Ана, как отдохнули?
ru dm fyi none | иван: Выложил документы в общую папку
ru dm question reply | кай: чем отличается базовый тариф от премиум
ru dm support reply | мия: Это безобразие! Третью неделю жду возврат денег, никто не отвечает
ru channel incident none | иван: почта лежит || ева: уже работает
ru dm scheduling reply | ева: пообедаем завтра в час?
uk dm request reply | іван: Привіт, Ано! Надішли, будь ласка, договір до п'ятниці
uk dm question reply | єва: не знаєш, де лежить шаблон звіту
uk channel incident reply | іван: <@ana> впав прод, платежі не проходять з 10:40
uk dm scheduling reply | іван: Тобі зручно поговорити у четвер о 15:00?
uk dm scheduling none | іван: Перенесемо зустріч на понеділок? || ana: Так, мені підходить || іван: чудово, до зустрічі
uk dm support reply | мія: Не можу увійти в особистий кабінет, пише що пароль невірний
uk dm sales reply | омар: Добрий день! Скільки коштує ліцензія на 30 користувачів і чи є знижка?
uk channel fyi none | іван: До відома: з понеділка офіс відкривається о 10 ранку.
uk dm social none | єва: З днем народження! 🎉 || ana: Дуже дякую!
uk dm spam none | приз: Ви виграли 100000 гривень! Переходьте за посиланням і отримайте приз: http://pryz.example
uk channel request none | іван: Єво, можеш оновити календар? || єва: готово
uk channel question none | іван: хто знає пароль від вайфаю? || єва: на дошці написаний
uk dm request reply | єва: глянь презентацію, мені потрібна твоя думка до завтра
uk dm support none | мія: Замовлення не прийшло || ana: Ми відправили його ще раз || мія: дякую, отримала
uk group social reply | іван: Ана, як відпочили?
uk dm fyi none | іван: Виклав документи у спільну теку
uk dm question reply | кай: чим відрізняється базовий тариф від преміум
uk dm support reply | мія: Це неподобство! Третій тиждень чекаю на повернення коштів, ніхто не відповідає
uk channel incident none | іван: пошта лежить || єва: вже працює
uk dm scheduling reply | єва: пообідаємо завтра о першій?
zh dm request reply | 李: Ana你好，请在周五之前把合同发给我
zh dm question reply | 陈: 报销模板放在哪里
zh channel incident reply | 李: <@ana> 线上支付服务挂了，用户都付不了款
zh dm scheduling reply | 李: 周四下午三点有空开个会吗？
zh dm scheduling none | 李: 会议改到周一可以吗？ || ana: 可以 || 李: 好的，谢谢
zh dm support reply | 王: 我登录不了账号，一直提示密码错误
zh dm sales reply | 赵: 您好，30个用户的授权多少钱？有折扣吗？
zh channel fyi none | 李: 通知：下周一起办公室十点开门，无需回复。
zh dm social none | 陈: 生日快乐！🎉 || ana: 谢谢！
zh dm spam none | 奖: 恭喜您中奖10万元！点击链接领取奖金 http://jiang.example
zh channel request none | 李: 陈，麻烦更新一下日历 || 陈: 已完成
zh channel question none | 李: 谁知道会议室的无线密码？ || 陈: 写在白板上
zh dm request reply | 陈: 帮我看看这份演示文稿，明天之前给个意见
zh dm support none | 王: 订单没收到 || ana: 今天已经重新发货 || 王: 收到了，谢谢
zh group social reply | 李: Ana，假期过得怎么样？
zh dm fyi none | 李: 文件已经上传到共享文件夹了
zh dm question reply | 凯: 基础版和高级版有什么区别
zh dm support reply | 王: 太过分了！退款等了三个星期还没到，没人理我
zh channel incident none | 李: 邮件服务器崩了 || 陈: 已恢复
zh dm scheduling reply | 陈: 明天中午一起吃饭吗
"""
