//! Tokenizers of models that fairseq trained (NLLB, mBART), as they are published without a `tokenizer.json`: a SentencePiece model
//! whose pieces are numbered anew, four control tokens first, and behind them the languages.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

pub(super) use super::pieces::JOINT_MODEL as MODEL;
use super::pieces::{self, SETTINGS};
use super::{CONTROL, Tokenizer};
use crate::error::{Error, Result};
use crate::files::Folder;

/// The languages of NLLB-200, in the order of their tokens.
const NLLB: &str = "ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn";
/// The languages of mBART-50, in the order of their tokens; mBART has the first 25.
const MBART: &str = "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI";
const MBART_25: usize = 25;
const MASK: &str = "<mask>";

/// Where a text's language stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Language, text, end.
    Before,
    /// Text, end, language.
    Behind,
}

/// Encoders whose pieces are numbered in this way; `vocabulary` opens them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EncoderClass {
    XlmRoberta,
    Camembert,
}

/// Whether `folder` holds such a tokenizer.
pub(super) fn is_there(folder: &Folder) -> bool {
    folder.contains(MODEL)
}

/// The tokenizer of `folder`, whose settings say which of the models it is.
///
/// # Errors
/// A model that is not known, or another language than it has.
pub(super) fn open(folder: &Folder) -> Result<Tokenizer> {
    let settings = &pieces::read_settings(folder)?;
    let model = pieces::read_model(folder, MODEL)?;
    let class = class(folder, settings)?;
    let legacy = settings["legacy_behaviour"].as_bool() == Some(true);
    let (languages, order, usual): (Vec<&str>, _, _) = match class.as_str() {
        "NllbTokenizer" if legacy => (NLLB.split(' ').collect(), Order::Behind, "eng_Latn"),
        "NllbTokenizer" => (NLLB.split(' ').collect(), Order::Before, "eng_Latn"),
        "MBart50Tokenizer" => (MBART.split(' ').collect(), Order::Before, "en_XX"),
        _ => (
            MBART.split(' ').take(MBART_25).collect(),
            Order::Behind,
            "en_XX",
        ),
    };
    // The model's own first three are `<unk>`, `<s>` and `</s>`.
    let mut ids: HashMap<String, u32> = CONTROL.map(str::to_string).into_iter().zip(0..).collect();
    for (piece, id) in model.pieces().zip(1..).skip(3) {
        ids.insert(piece.to_string(), id);
    }
    let first = model.len() as u32 + 1;
    for (language, id) in languages.iter().chain(&[MASK]).zip(first..) {
        ids.insert((*language).to_string(), id);
    }
    let mut codes: Vec<String> = languages.into_iter().map(str::to_string).collect();
    // Tokens that were added later, and those that the folder numbers in another way.
    let added = settings["added_tokens_decoder"].as_object();
    let added = added.into_iter().flatten();
    let added: BTreeMap<u32, &str> = added
        .filter_map(|(id, token)| Some((id.parse().ok()?, token["content"].as_str()?)))
        .collect();
    ids.retain(|_, id| !added.contains_key(id));
    for (id, text) in added {
        ids.insert(text.to_string(), id);
        if !CONTROL.contains(&text) && !codes.iter().any(|code| code == text) {
            codes.push(text.to_string());
        }
    }
    let own = settings["src_lang"].as_str().unwrap_or(usual);
    let language = ids
        .get(own)
        .copied()
        .filter(|_| codes.iter().any(|c| c == own));
    let language = language.ok_or_else(|| {
        Error::model("the tokenizer cannot be used")
            .at(format!("{}: src_lang", folder.path_of(SETTINGS).display()))
            .expected("a language of the model")
            .found(format!("`{own}`"))
    })?;
    codes.push(MASK.to_string());
    let mut tokenizer = pieces::tokenizer(model, ids, codes, vec![language])?;
    if order == Order::Behind {
        let eos = tokenizer.eos.into_iter();
        tokenizer.template.before.clear();
        tokenizer.template.after = eos.chain([language]).collect();
    }
    Ok(tokenizer)
}

/// Whose tokenizer it is: the class that transformers has for it.
fn class(folder: &Folder, settings: &Value) -> Result<String> {
    let class = named_class(folder, settings)?;
    match class.as_str() {
        "NllbTokenizer" | "MBartTokenizer" | "MBart50Tokenizer" => Ok(class),
        _ => Err(Error::model("the tokenizer cannot be used")
            .at(folder.path_of(MODEL).display().to_string())
            .expected("`tokenizer_class`: NllbTokenizer, MBartTokenizer or MBart50Tokenizer, or a `vocab.json`")
            .found(format!("`{class}`"))
            .hint("save the tokenizer with transformers, which writes tokenizer.json")),
    }
}

/// The encoder whose tokenizer `folder` holds, if it holds one with a SentencePiece model.
pub(super) fn encoder_class(folder: &Folder, settings: &Value) -> Result<Option<EncoderClass>> {
    if !is_there(folder) {
        return Ok(None);
    }
    Ok(match named_class(folder, settings)?.as_str() {
        "XLMRobertaTokenizer" => Some(EncoderClass::XlmRoberta),
        "CamembertTokenizer" => Some(EncoderClass::Camembert),
        _ => None,
    })
}

/// The class as the folder's files name it; empty where they do not.
fn named_class(folder: &Folder, settings: &Value) -> Result<String> {
    const CONFIG: &str = "config.json";
    let config = match folder.contains(CONFIG) {
        true => pieces::read_json(folder, CONFIG)?,
        false => Value::Null,
    };
    let named = [settings, &config].map(|value| value["tokenizer_class"].as_str());
    let class = named.into_iter().flatten().next();
    let class = class.or(match config["model_type"].as_str() {
        Some("mbart") => Some("MBartTokenizer"),
        Some("m2m_100") => Some("NllbTokenizer"),
        Some("xlm-roberta") => Some("XLMRobertaTokenizer"),
        Some("camembert") => Some("CamembertTokenizer"),
        _ => None,
    });
    Ok(class
        .unwrap_or_default()
        .trim_end_matches("Fast")
        .to_string())
}
